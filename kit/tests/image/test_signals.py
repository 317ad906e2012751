"""Signals to a container: process 1 is the master and passes the cases of tests/runtime too."""

import signal
import time

import pytest

from kit.tests.image.conftest import StartContainer
from kit.tests.runtime.harness import SERVE, port_is_free
from kit.tests.runtime.test_master import (
    test_a_killed_exporter_is_replaced_and_the_counters_stay,
    test_every_line_of_master_and_workers_is_json,
    test_python_m_app_serve_runs_the_same,
    test_sighup_keeps_the_counters_and_one_exporter,
)
from kit.tests.runtime.test_shutdown import (
    background,
    test_a_draining_worker_is_not_ready_but_serves_and_closes_connections,
    test_a_plain_route_that_cannot_be_cancelled_does_not_keep_the_exit_hooks_from_running,
    test_a_request_in_flight_is_finished_after_sigterm,
    test_a_request_that_is_cut_before_its_first_byte_is_told_to_come_back,
    test_a_second_sigterm_changes_nothing,
    test_a_stream_of_a_minute_is_cut_at_the_deadline_and_the_lifespan_still_closes,
)
from kit.tests.runtime.test_workers import (
    test_a_killed_worker_is_replaced_while_its_sibling_serves,
    test_a_killed_worker_is_replaced_while_the_database_is_down,
    test_a_worker_whose_loop_stands_still_is_replaced_and_its_line_is_logged,
)
from slipway_kit.testing.waiting import eventually

__all__ = [
    "background",
    "test_a_draining_worker_is_not_ready_but_serves_and_closes_connections",
    "test_a_killed_exporter_is_replaced_and_the_counters_stay",
    "test_a_killed_worker_is_replaced_while_its_sibling_serves",
    "test_a_killed_worker_is_replaced_while_the_database_is_down",
    "test_a_plain_route_that_cannot_be_cancelled_does_not_keep_the_exit_hooks_from_running",
    "test_a_request_in_flight_is_finished_after_sigterm",
    "test_a_request_that_is_cut_before_its_first_byte_is_told_to_come_back",
    "test_a_second_sigterm_changes_nothing",
    "test_a_stream_of_a_minute_is_cut_at_the_deadline_and_the_lifespan_still_closes",
    "test_a_worker_whose_loop_stands_still_is_replaced_and_its_line_is_logged",
    "test_every_line_of_master_and_workers_is_json",
    "test_python_m_app_serve_runs_the_same",
    "test_sighup_keeps_the_counters_and_one_exporter",
]

# A child that outlives the process that started it.
ORPHAN = """
import os, time
# The child says nothing: what comes after the end of the process that was asked for may be lost.
if child := os.fork():
    print(child, flush=True)
    os._exit(0)
time.sleep(1)
"""


@pytest.mark.parametrize("delay", [0, 0.2, 0.5, 1])
def test_sigterm_is_heard_from_the_first_moment_of_the_start(
    start: StartContainer, delay: float
) -> None:
    container = start(SERVE, ready=False)
    eventually(lambda: container.hears(signal.SIGTERM))
    time.sleep(delay)
    container.send(signal.SIGTERM)
    assert container.wait_end(seconds=10) == 0
    assert port_is_free(container.port)
    assert port_is_free(container.metrics_port)


def test_an_orphan_is_reaped_by_process_1(start: StartContainer) -> None:
    container = start()
    pid = int(container.run_inside("python", "-c", ORPHAN).stdout)
    eventually(lambda: pid not in container.processes())
    assert not [state for state, _ in container.processes().values() if state == "Z"]
    assert len(container.workers()) == 2


def test_killing_process_1_ends_everything(start: StartContainer) -> None:
    container = start()
    container.send(signal.SIGKILL)
    assert container.wait_end(seconds=10) == 128 + signal.SIGKILL
    assert port_is_free(container.port)
    assert port_is_free(container.metrics_port)
