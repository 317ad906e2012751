import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from kit.tests.runtime.conftest import Start
from kit.tests.runtime.harness import GUNICORN, Service, connected
from slipway_kit.testing.waiting import eventually

THREADS = 4
CONNECTIONS = 2
PROBES = ["/livez", "/readyz", "/startupz", "/health"]


@pytest.fixture
def crowded(start: Start) -> Iterator[Service]:
    """One worker whose threads and pool connections are all held, with others waiting."""
    service = start(
        [*GUNICORN, "kit.tests.runtime.crowded:create_app()"],
        WEB_CONCURRENCY=1,
        THREADPOOL_TOKENS=THREADS,
        DATABASE_POOL_SIZE=CONNECTIONS,
        DATABASE_POOL_TIMEOUT_SECONDS=1,
        DATABASE_STATEMENT_TIMEOUT_MS=20_000,
        REQUEST_TIMEOUT_SECONDS=30,
        SHUTDOWN_SECONDS=60,
        READINESS_REQUIRES_DATABASE="true",
    )
    with ExitStack() as stack:
        for path, count in [
            ("/scenarios/thread?seconds=15", THREADS * 2),
            ("/notes/sleep/15", CONNECTIONS),
        ]:
            for _ in range(count):
                stack.enter_context(connected(service.port)).request("GET", path)
        yield service


def test_probes_answer_while_threads_and_pool_are_exhausted(crowded: Service) -> None:
    eventually(lambda: crowded.get("/notes/sleep/0")[0] == 503, what="an exhausted pool")
    assert crowded.get("/scenarios/thread?seconds=0")[0] == 503
    # A busy neighbour of this machine may spoil a round; a probe that queues spoils all of them.
    rounds = (slowest_of_200(crowded.port) for _ in range(3))
    assert any(seconds < 0.05 for seconds in rounds)


def slowest_of_200(port: int) -> float:
    """Return the 99th percentile of 200 probes, in seconds."""
    times = sorted(timed(port, path) for path in PROBES * 50)
    return times[197]


def timed(port: int, path: str) -> float:
    """Ask as a kubelet does, on a new connection, and return the seconds that it took."""
    started = time.perf_counter()
    with connected(port, timeout=5) as connection:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read()
        assert response.status == 200, body
    return time.perf_counter() - started
