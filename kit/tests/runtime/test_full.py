"""A service that runs out of something: space for metrics, file descriptors, processes."""

import re
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import psutil
import pytest

from kit.tests.runtime.conftest import Start
from kit.tests.runtime.harness import SCENARIOS, Service, ask, connected
from kit.tests.support.volumes import fill, volume
from slipway_kit.metrics import files
from slipway_kit.testing.waiting import eventually

CLIENTS, DESCRIPTORS = 100, 64


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """What two workers start with, and a little."""
    with volume(tmp_path / "volume", kib=2048) as found:
        yield found


def asked(service: Service, times: int) -> int:
    """Ask on connections of their own; return how many were answered."""

    def once(_: int) -> bool:
        with suppress(OSError, HTTPException):
            return service.get("/scenarios/pid", timeout=5)[0] == 200
        return False

    with ThreadPoolExecutor(8) as pool:
        return sum(pool.map(once, range(times)))


def lines(service: Service) -> int:
    """Return how many requests of `asked` the log has."""
    return len(re.findall(r'"route": "/scenarios/pid", "status": 200', service.text))


def all_logged(service: Service, answered: int) -> None:
    eventually(lambda: lines(service) == answered, what="a line for each request")


def test_workers_are_replaced_and_log_every_request_while_the_metrics_volume_is_full(
    start: Start, small: Path
) -> None:
    folder = small / "metrics"
    service = start(PROMETHEUS_MULTIPROC_DIR=folder)
    answered = asked(service, 50)
    # The space of what a worker leaves is gone too.
    for file in folder.glob("*.db"):
        (small / file.name).hardlink_to(file)
    full = fill(small)
    for round_ in range(1, 4):
        # A worker that is killed loses the lines of the loop iteration that it is in.
        all_logged(service, answered)
        for worker in service.workers():
            service.kill(worker)
        service.wait_ready(2 + 2 * round_)
        answered += asked(service, 50)
    # It has a slot without any file.
    service.send(signal.SIGTTIN)
    service.wait_ready(9)
    answered += asked(service, 50)
    assert answered == 250
    all_logged(service, answered)
    assert len(service.events_so_far(files.LOST)) == 7
    assert "Traceback" not in service.text
    assert service.metrics()["db_pool_size"] == 0
    full.unlink()
    eventually(lambda: service.scraped()["db_pool_size"] == 30, seconds=15)


def test_few_descriptors_cost_clients_their_connection_and_nobody_a_line(start: Start) -> None:
    limited = ["sh", "-c", f'ulimit -n {DESCRIPTORS} && exec "$@"', "sh", *SCENARIOS]
    service = start(limited)
    (said,) = service.events_so_far("file descriptors are few")
    assert f"> {DESCRIPTORS}" in said
    workers = [psutil.Process(pid) for pid in service.workers()]
    with ExitStack() as held:
        clients = [held.enter_context(connected(service.port, timeout=1)) for _ in range(CLIENTS)]
        for client in clients:
            client.connect()
        time.sleep(1)
        before = cpu_seconds(workers)
        time.sleep(3)
        assert cpu_seconds(workers) - before < 1
        with ThreadPoolExecutor(8) as pool:
            served = [client for client in pool.map(served_client, clients) if client]
        assert DESCRIPTORS / 4 < len(served) < CLIENTS
        # Whoever has a connection is served: some descriptors are left for the database.
        assert {ask(client, "/scenarios/query")[0] for client in served} == {200}
        assert ask(served[0], "/scenarios/compute")[0] in {200, 503}
    eventually(service.answers, seconds=10)
    answered = len(served) + asked(service, 50)
    eventually(lambda: lines(service) >= answered, what="a line for each request")
    assert [psutil.Process(pid) for pid in service.workers()] == workers
    assert "Traceback" not in service.text


def served_client(client: HTTPConnection) -> HTTPConnection | None:
    """Return the client if it is answered."""
    with suppress(OSError, HTTPException):
        return client if ask(client, "/scenarios/pid")[0] == 200 else None
    return None


def cpu_seconds(processes: list[psutil.Process]) -> float:
    return sum(sum(each.cpu_times()[:2]) for each in processes)
