"""Processes that compute for a worker: they end with it, however it ends, and it outlives them."""

import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPConnection

import psutil
import pytest

from kit.tests.runtime.conftest import Start
from kit.tests.runtime.harness import Service, connected, lives
from slipway_kit.testing.waiting import eventually

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def background() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def compute(service: Service) -> tuple[int, int]:
    """Return the process ids of a worker and of what computes for it."""
    status, _, body = service.get("/scenarios/compute")
    assert status == 200, body
    answer = json.loads(body)
    return answer["pid"], answer["child"]


def busy(connection: HTTPConnection, service: Service) -> int:
    """Have the only worker compute, and return the process that does."""
    connection.request("GET", "/scenarios/compute?seconds=60")
    return eventually(lambda: computing(service))


def computing(service: Service) -> int:
    """Return the process that has said last that it computes."""
    lines = service.events_so_far("computing")
    return int(json.loads(lines[-1])["pid"]) if lines else 0


def test_a_busy_process_ends_with_its_killed_worker(start: Start) -> None:
    service = start(WEB_CONCURRENCY=1)
    with connected(service.port) as connection:
        child = busy(connection, service)
        [worker] = service.workers()
        assert psutil.Process(child).ppid() == worker
        os.kill(worker, signal.SIGKILL)
        eventually(lambda: not lives(child), seconds=1)


def test_idle_processes_end_when_the_master_is_killed(service: Service) -> None:
    _, child = compute(service)
    service.process.kill()
    eventually(lambda: not lives(child), seconds=8)
    eventually(lambda: not service.workers(), seconds=8)


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_a_busy_process_ends_when_the_service_is_stopped(start: Start, sig: signal.Signals) -> None:
    service = start(
        WEB_CONCURRENCY=1,
        PROCESS_POOL_TIMEOUT_SECONDS=20,
        REQUEST_TIMEOUT_SECONDS=30,
        SHUTDOWN_SECONDS=60,
    )
    with connected(service.port) as connection:
        child = busy(connection, service)
        os.killpg(service.process.pid, sig)
        # The group's signal is none of its business.
        assert lives(child)
        if sig == signal.SIGTERM:
            os.kill(service.process.pid, signal.SIGINT)
        assert service.wait_end(seconds=10) == 0
        assert not lives(child)


def test_a_recycled_worker_leaves_no_process_behind(start: Start) -> None:
    service = start(MAX_REQUESTS=5)
    seen = {compute(service) for _ in range(4)}
    worker, child = seen.pop()
    while worker in service.workers():
        with suppress(OSError):
            service.pid()
    eventually(lambda: not lives(child))
    assert service.events_so_far("worker is recycled")


def test_a_killed_process_is_a_503_for_its_call_and_the_next_one_has_another(
    start: Start,
) -> None:
    service = start(WEB_CONCURRENCY=1)
    with connected(service.port) as connection:
        child = busy(connection, service)
        os.kill(child, signal.SIGKILL)
        response = connection.getresponse()
        assert (response.status, response.getheader("retry-after")) == (503, "1")
        assert "interrupted" in json.loads(response.read())["detail"]
    worker, another = compute(service)
    assert another != child
    assert [each.pid for each in psutil.Process(worker).children(recursive=True)] == [another]


def test_the_lines_of_a_process_name_the_request_that_it_computes_for(service: Service) -> None:
    with connected(service.port) as connection:
        headers = {"X-Request-ID": "from-the-client", "traceparent": f"00-{TRACE}-{1:016x}-01"}
        connection.request("GET", "/scenarios/compute", headers=headers)
        answer = json.loads(connection.getresponse().read())
    [line] = service.events("computing")
    assert (line["pid"], line["request_id"]) == (answer["child"], "from-the-client")
