"""Workers that die, stand still or are recycled, and what the others do meanwhile."""

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kit.tests.runtime.conftest import Start
from kit.tests.runtime.harness import Service, ask, connected
from slipway_kit.testing.waiting import eventually


def test_a_killed_worker_is_replaced_while_its_sibling_serves(service: Service) -> None:
    victim, sibling = service.workers()
    service.kill(victim)
    assert service.pid() in {sibling, *service.workers()}
    eventually(lambda: len(service.events_so_far("service ready")) == 3, seconds=5)
    assert victim not in service.workers()
    assert sibling in service.workers()


def test_a_killed_worker_is_replaced_while_the_database_is_down(
    start: Start, tmp_path: Path
) -> None:
    service = start(DATABASE_URL=f"postgresql://nobody@/none?host={tmp_path}")
    service.kill(service.workers()[0])
    eventually(lambda: len(service.events_so_far("service ready")) == 3, seconds=5)
    assert service.lives(service.master)
    assert service.get("/readyz")[0] == 503
    assert service.get("/livez")[0] == 200


def test_a_worker_whose_loop_stands_still_is_replaced_and_its_line_is_logged(start: Start) -> None:
    service = start(WORKER_TIMEOUT_SECONDS=2)
    before = set(service.workers())
    with ThreadPoolExecutor(1) as pool:
        broken = pool.submit(service.get, "/scenarios/block?seconds=30", timeout=30)
        began = time.monotonic()
        eventually(lambda: len(service.events_so_far("service ready")) == 3, seconds=6)
        # The timeout, a second until the master looks, and what a busy machine adds.
        assert time.monotonic() - began < 2 + 1 + 2
        assert broken.exception(5) is not None
    assert len(before & set(service.workers())) == 1
    stack = service.events("worker was blocked")[0]["stack"]
    assert "scenarios.py" in stack
    assert "stand_still" in stack


def test_a_lifespan_that_stands_still_is_killed_and_its_line_is_logged(
    start: Start, tmp_path: Path
) -> None:
    order = tmp_path / "order"
    service = start(WORKER_TIMEOUT_SECONDS=2, SCENARIO_FILE=order)
    order.write_text("block")
    service.kill(service.workers()[0])
    eventually(lambda: service.events_so_far("worker was blocked"), seconds=8)
    order.write_text("")
    eventually(lambda: len(service.events_so_far("service ready")) == 3, seconds=8)
    assert "stand_still" in service.events("worker was blocked")[0]["stack"]


def test_a_start_that_waits_too_long_logs_the_line_and_stops_the_service(
    start: Start, tmp_path: Path
) -> None:
    order = tmp_path / "order"
    order.write_text("wait")
    service = start(ready=False, SCENARIO_FILE=order, STARTUP_SECONDS=1)
    assert service.wait_end(seconds=15) == 3
    assert service.events("start-up took too long")
    assert 'scenarios.py\\", line' in service.text


def test_workers_that_fail_to_start_at_once_stop_the_service_with_its_status(
    start: Start, tmp_path: Path
) -> None:
    order = tmp_path / "order"
    order.write_text("wait")
    service = start(ready=False, SCENARIO_FILE=order, STARTUP_SECONDS=1)
    eventually(lambda: len(service.events_so_far("start-up took too long")) == 2, seconds=10)
    # Of two ends gunicorn learns one after the other, the second while it stops for the first.
    service.send(signal.SIGSTOP)
    eventually(lambda: not service.workers(), seconds=10)
    service.send(signal.SIGCONT)
    assert service.wait_end(seconds=15) == 3


def test_a_worker_that_fails_to_start_later_leaves_the_others_alone(
    start: Start, tmp_path: Path
) -> None:
    order = tmp_path / "order"
    service = start(SCENARIO_FILE=order)
    victim, sibling = service.workers()
    order.write_text("fail")
    service.kill(victim)
    eventually(lambda: service.text.count("fails on request") >= 2, seconds=10)
    assert service.pid() == sibling
    order.write_text("")
    eventually(lambda: len(service.events_so_far("service ready")) == 3, seconds=10)


def test_a_worker_that_fails_the_first_start_stops_the_service(
    start: Start, tmp_path: Path
) -> None:
    order = tmp_path / "order"
    order.write_text("fail")
    service = start(ready=False, SCENARIO_FILE=order)
    assert service.wait_end(seconds=15) == 3


def test_a_recycled_worker_finishes_a_stream_that_outlasts_the_timeout(start: Start) -> None:
    service = start(
        MAX_REQUESTS=5,
        WORKER_TIMEOUT_SECONDS=2,
        SHUTDOWN_SECONDS=12,
    )
    with ThreadPoolExecutor(1) as pool, connected(service.port) as connection:
        connection.request("GET", "/scenarios/stream?seconds=5")
        response = connection.getresponse()
        owner = int(response.readline())
        pool.submit(use_up, service, owner)
        rest = response.read().split()
    assert len(rest) == 49
    assert {int(line) for line in rest} == {owner}
    eventually(lambda: not service.lives(owner), seconds=10)
    assert "worker is recycled" in service.text
    assert not service.events("worker was blocked")
    eventually(lambda: len(service.workers()) == 2)


def use_up(service: Service, owner: int) -> None:
    """Ask until the worker has had its share."""
    give_up = time.monotonic() + 4
    while time.monotonic() < give_up:
        # The other one may have its share first.
        if any(f'"pid": {owner},' in line for line in service.events_so_far("worker is recycled")):
            return
        service.pid()


def test_recycling_under_load_breaks_no_request_and_one_worker_leaves_at_a_time(
    start: Start,
) -> None:
    service = start(MAX_REQUESTS=60)
    with ThreadPoolExecutor(6) as pool:
        counts = list(pool.map(lambda _: keep_asking(service, seconds=5), range(6)))
    assert sum(counts) > 240
    assert len(service.events_so_far("worker is recycled")) >= 3
    leaving = 0
    for event in service.events():
        leaving += event["event"] == "worker is recycled"
        leaving -= event["event"].startswith("Worker exiting")
        assert leaving <= 1


def keep_asking(service: Service, *, seconds: float) -> int:
    """Ask on keep-alive connections as a strict client: no retry, every reset counts."""
    answered, give_up = 0, time.monotonic() + seconds
    while time.monotonic() < give_up:
        with connected(service.port, timeout=5) as connection:
            while time.monotonic() < give_up:
                status, headers, _ = ask(connection, "/scenarios/pid")
                assert status == 200
                answered += 1
                if headers.get("connection") == "close":
                    break
    return answered


def test_recycling_the_only_worker_is_refused_with_one_sentence(start: Start) -> None:
    service = start(ready=False, MAX_REQUESTS=5, WEB_CONCURRENCY=1)
    assert service.wait_end(seconds=10) == 1
    assert service.text.count("\n") == 1
    assert "MAX_REQUESTS with one worker stalls" in service.text
