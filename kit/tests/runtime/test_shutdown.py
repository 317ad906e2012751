"""How a service leaves: nothing that it has accepted is lost, and it leaves for certain."""

import json
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path

import pytest

from kit.tests.runtime.conftest import Start
from kit.tests.runtime.harness import (
    SERVE,
    Service,
    ask,
    connected,
    lives,
    port_is_free,
)
from slipway_kit.testing.waiting import eventually


@pytest.fixture
def background() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def test_a_request_in_flight_is_finished_after_sigterm(
    service: Service, background: ThreadPoolExecutor
) -> None:
    answer = background.submit(service.get, "/scenarios/slow?seconds=2")
    time.sleep(0.3)
    service.send(signal.SIGTERM)
    status, headers, _ = answer.result(10)
    assert status == 200
    assert headers["connection"] == "close"
    assert service.wait_end(seconds=10) == 0


def test_a_draining_worker_is_not_ready_but_serves_and_closes_connections(service: Service) -> None:
    with connected(service.port) as connection:
        status, headers, _ = ask(connection, "/readyz")
        assert (status, "connection" in headers) == (200, False)
        service.send(signal.SIGTERM)
        eventually(lambda: service.get("/readyz")[0] == 503, seconds=1)
        status, headers, _ = ask(connection, "/scenarios/pid")
        assert (status, headers["connection"]) == (200, "close")
    # New connections are served until every proxy has heard that the pod leaves.
    assert service.get("/scenarios/pid")[0] == 200


def test_a_stream_of_a_minute_is_cut_at_the_deadline_and_the_lifespan_still_closes(
    service: Service, background: ThreadPoolExecutor
) -> None:
    answer = background.submit(service.get, "/scenarios/stream?seconds=60", timeout=30)
    time.sleep(0.5)
    began = time.monotonic()
    service.send(signal.SIGTERM)
    assert service.wait_end(seconds=15) == 0
    # SHUTDOWN_SECONDS=5: one second to drain, two and a half for requests.
    assert 3 < time.monotonic() - began < 7
    with pytest.raises(HTTPException):
        answer.result(5)
    assert len(service.events("lifespan closed")) == 2
    assert {e["phase"] for e in service.events("phase closed")} >= {"database", "tasks"}
    assert len(service.events("exit hook ran")) == 2
    assert not service.events_so_far("Worker was sent SIGKILL")


def test_a_plain_route_that_cannot_be_cancelled_does_not_keep_the_exit_hooks_from_running(
    service: Service, background: ThreadPoolExecutor
) -> None:
    answer = background.submit(service.get, "/scenarios/thread?seconds=60", timeout=30)
    time.sleep(0.5)
    service.send(signal.SIGTERM)
    assert service.wait_end(seconds=15) == 0
    assert answer.result(5)[0] in {503, 504}
    assert len(service.events("exit hook ran")) == 2
    assert len(service.events("lifespan closed")) == 2
    assert "SIGKILL" not in service.text


def test_a_lifespan_that_does_not_close_is_left_behind_in_time(
    start: Start, tmp_path: Path
) -> None:
    order = tmp_path / "order"
    service = start(SCENARIO_FILE=order)
    order.write_text("stay")
    service.send(signal.SIGTERM)
    assert service.wait_end(seconds=10) == 0
    assert len(service.events("shutdown took too long")) == 2
    assert len(service.events("exit hook ran")) == 2
    assert "SIGKILL" not in service.text


def test_a_request_that_is_cut_before_its_first_byte_is_told_to_come_back(
    start: Start, background: ThreadPoolExecutor
) -> None:
    service = start(WEB_CONCURRENCY=1)
    answer = background.submit(service.get, "/scenarios/slow?seconds=2.9", timeout=30)
    time.sleep(0.5)
    # SIGINT leaves one second to requests.
    service.send(signal.SIGINT)
    status, headers, body = answer.result(10)
    assert (status, headers["retry-after"]) == (503, "1")
    assert json.loads(body)["detail"] == "The service is restarting; try again."
    assert service.wait_end(seconds=10) == 0
    assert service.events("lifespan closed")


@pytest.mark.parametrize("whom", ["master", "everybody"])
def test_a_second_sigterm_changes_nothing(
    service: Service, background: ThreadPoolExecutor, whom: str
) -> None:
    answer = background.submit(service.get, "/scenarios/slow?seconds=2")
    time.sleep(0.3)
    targets = [service.master] + (service.workers() if whom == "everybody" else [])
    service.kill(*targets, sig=signal.SIGTERM, times=2)
    assert answer.result(10)[0] == 200
    assert service.wait_end(seconds=10) == 0
    assert len(service.events("lifespan closed")) == 2


def test_sigterm_during_the_start_ends_it_cleanly(start: Start, tmp_path: Path) -> None:
    order = tmp_path / "order"
    order.write_text("wait")
    service = start(ready=False, SCENARIO_FILE=order, STARTUP_SECONDS=3)
    eventually(lambda: "phase opened" in service.text or "Booting worker" in service.text)
    service.send(signal.SIGTERM)
    service.wait_end(seconds=10)
    assert not service.workers()
    assert port_is_free(service.port)


def test_a_worker_that_is_told_to_leave_before_it_listens_leaves(start: Start) -> None:
    workers = "--worker-class=kit.tests.runtime.late.LateWorker"
    service = start(ready=False, SHUTDOWN_SECONDS=20, GUNICORN_CMD_ARGS=workers)
    eventually(service.booted)
    service.send(signal.SIGTERM)
    assert service.wait_end(seconds=10) == 0
    assert not service.workers()


@pytest.mark.parametrize("delay", [0.05, 0.4, 0.8])
def test_sigterm_at_any_moment_of_the_start_leaves_nothing_behind(
    start: Start, delay: float
) -> None:
    service = start(SERVE, ready=False)
    time.sleep(delay)
    service.send(signal.SIGTERM)
    service.wait_end(seconds=10)
    eventually(lambda: not service.workers() and not service.exporters())
    assert port_is_free(service.port)
    assert port_is_free(service.metrics_port)


def test_ctrl_c_ends_everything_at_once(start: Start) -> None:
    # Four seconds to drain, which nobody at a terminal wants to wait for.
    service = start(SHUTDOWN_SECONDS=20)
    began = time.monotonic()
    service.kill(service.master, *service.workers(), *service.exporters(), sig=signal.SIGINT)
    assert service.wait_end(seconds=5) == 0
    assert time.monotonic() - began < 3.5
    assert port_is_free(service.port)


def test_killing_the_master_ends_its_workers_and_exporter_and_frees_both_ports(
    start: Start,
) -> None:
    # Four seconds to drain: the port is free long before.
    service = start(SHUTDOWN_SECONDS=20)
    family = [*service.workers(), *service.exporters()]
    assert len(family) == 3
    service.process.kill()
    eventually(lambda: port_is_free(service.port), seconds=3)
    eventually(lambda: port_is_free(service.metrics_port), seconds=3)
    eventually(lambda: not any(map(lives, family)), seconds=8)
    assert len(service.events("lifespan closed")) == 2
    again = start(PORT=service.port, METRICS_PORT=service.metrics_port)
    assert again.answers()
