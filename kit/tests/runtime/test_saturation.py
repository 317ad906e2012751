"""What a scrape shows of two busy workers, and what the log says of a blocked one."""

import json
import os
import random
import signal
import string
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.client import HTTPConnection
from typing import Any

import psutil
import pytest

from kit.tests.runtime.harness import (
    SCENARIOS,
    Service,
    ask,
    connected,
    environment,
    lives,
)
from kit.tests.support.metrics_list import LIST, scraped
from slipway_kit.testing.waiting import eventually

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE", "MKCOL", "SEARCH"]
THREADS = 'thread_pool_active_threads{purpose="default"}'


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, migrated_url: str) -> Iterator[Service]:
    """Two workers for all tests of this module; those that end one come last."""
    log = tmp_path_factory.mktemp("saturation") / "log"
    service = Service(log, SCENARIOS, environment(migrated_url, WORKER_TIMEOUT_SECONDS=30))
    try:
        service.wait_ready(2)
        yield service
    finally:
        service.end()


def test_a_scrape_shows_the_metrics_of_the_list_and_no_others(service: Service) -> None:
    """Those with labels once they have a series."""
    with connected(service.port) as connection:
        ask(connection, "/scenarios/pid")
    with connected(service.metrics_port) as connection:
        _, _, body = ask(connection, "/metrics")
    shown, listed = set(scraped(body.decode())), set(LIST.read_text().splitlines())
    assert shown <= listed
    assert {row for row in listed if len(row.split()) == 2} <= shown


def test_ten_blocking_requests_are_ten_active_threads_at_a_scrape(service: Service) -> None:
    with ExitStack() as stack:
        for _ in range(10):
            connection = stack.enter_context(connected(service.port))
            connection.request("GET", "/scenarios/thread?seconds=2")
        eventually(lambda: service.metrics()[THREADS] == 10, seconds=3)
    eventually(lambda: service.metrics()[THREADS] == 0, seconds=4)


def test_gauges_are_the_sum_of_the_workers(service: Service) -> None:
    found = service.metrics()
    assert found["db_pool_size"] == 2 * 10
    assert found['thread_pool_total_threads{purpose="default"}'] == 2 * 40
    assert found["process_pool_size"] == 2
    assert found["http_client_max_connections"] == 2 * 100


def test_a_route_that_blocks_the_loop_is_logged_once_with_its_line_and_its_request(
    service: Service,
) -> None:
    before = service.metrics()["event_loop_stalls_total"]
    with connected(service.port) as connection:
        headers = {"X-Request-ID": "blocks"}
        connection.request("GET", "/scenarios/block?seconds=1.5", headers=headers)
        worker = json.loads(connection.getresponse().read())["pid"]
    over = eventually(lambda: of(service, "event loop runs again", worker))
    [line] = of(service, "event loop is blocked", worker)
    assert "scenarios.py" in line["line"]
    assert line["line"].endswith("in stand_still")
    assert any(" in block" in frame for frame in line["frames"])
    assert (line["route"], line["request_id"]) == ("/scenarios/block", "blocks")
    assert line["level"] == "warning"
    assert 1.2 < over[0]["seconds"] < 3
    assert service.metrics()["event_loop_stalls_total"] == before + 1


def of(service: Service, event: str, pid: int) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in service.events_so_far(event)]
    return [line for line in found if line["pid"] == pid]


def test_a_worker_that_was_stopped_did_not_stall(service: Service) -> None:
    before = service.events_so_far("event loop is blocked")
    for worker in service.workers():
        os.kill(worker, signal.SIGSTOP)
    time.sleep(1)
    for worker in service.workers():
        os.kill(worker, signal.SIGCONT)
    time.sleep(0.5)
    assert service.events_so_far("event loop is blocked") == before


def test_a_scan_adds_no_series(service: Service) -> None:
    with connected(service.port) as connection:
        # Every known method, and one that is not.
        for method in METHODS:
            visit(connection, method, "/nothing")
    before = eventually(lambda: settled(service))
    chance = random.Random(4)
    with connected(service.port) as connection:
        for _ in range(1000):
            visit(connection, chance.choice(METHODS), any_path(chance))
    assert settled(service) == before


def settled(service: Service) -> set[str]:
    """Return the series once the log of requests is written, and with it their metrics."""
    time.sleep(0.2)
    return set(service.metrics())


def visit(connection: HTTPConnection, method: str, path: str) -> None:
    connection.request(method, path)
    response = connection.getresponse()
    response.read()
    assert response.status in {404, 405}


def any_path(chance: random.Random) -> str:
    text = "".join(chance.choices(string.ascii_letters + "%25/.-_", k=chance.randint(1, 60)))
    return f"/{text}?{text}=1"


def test_a_killed_worker_takes_its_gauges_along_and_leaves_its_counters(service: Service) -> None:
    counted = 'http_requests_total{handler="/scenarios/pid",method="GET",status="2xx"}'
    for _ in range(20):
        service.pid()
    before = service.metrics()[counted]
    with ThreadPoolExecutor(1) as pool:
        pool.submit(service.get, "/scenarios/compute?seconds=30")
        eventually(lambda: service.metrics()["process_pool_active"] == 1)
        lines = eventually(lambda: service.events_so_far("computing"))
        child = json.loads(lines[-1])["pid"]
        [victim] = [pid for pid in service.workers() if psutil.Process(child).ppid() == pid]
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: service.metrics()["process_pool_active"] == 0, seconds=3)
    assert not lives(child)
    eventually(lambda: len(service.events_so_far("service ready")) == 3)
    eventually(lambda: service.metrics()["db_pool_size"] == 2 * 10)
    assert service.metrics()[counted] >= before
