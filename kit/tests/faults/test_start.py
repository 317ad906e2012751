"""SIGTERM while a service starts, at moments from the first instruction to the first answer."""

import asyncio
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kit.tests.e2e.load import wire
from kit.tests.e2e.report import Report
from kit.tests.faults.world import WatchedService
from kit.tests.runtime.harness import environment, port_is_free
from kit.tests.support import ports

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning"),
]

MOMENTS = 12
END_SECONDS = 15.0
LOOK_SECONDS = 0.02
# What a connection that is not served may look like; anything else is half an answer.
UNSERVED = {"refused", "reset before an answer", "end before an answer"}


async def _ask_until(over: threading.Event, port: int, found: Counter[str]) -> None:
    while not over.is_set():
        try:
            connection = await wire.connect("127.0.0.1", port)
            answer = await connection.ask("GET", "/health")
            found[str(answer.status)] += 1
            connection.close()
        except wire.Failure as failure:
            found[failure.kind] += 1
        await asyncio.sleep(LOOK_SECONDS)


@contextmanager
def asked(port: int, found: Counter[str]) -> Iterator[None]:
    """Have a strict client ask on new connections inside, and count what it sees."""
    over = threading.Event()
    client = threading.Thread(target=lambda: asyncio.run(_ask_until(over, port, found)))
    client.start()
    try:
        yield
    finally:
        over.set()
        client.join()


def started(log: Path) -> WatchedService:
    """Start a service that nobody has waited for yet."""
    url = f"postgresql://u:p@127.0.0.1:{ports.free()}/none"
    return WatchedService(log, environment(url, SHUTDOWN_SECONDS=10))


def test_a_service_that_is_told_to_leave_while_it_starts_leaves_nothing(
    tmp_path: Path, report: Report
) -> None:
    began = time.monotonic()
    service = started(tmp_path / "whole")
    try:
        service.wait_ready(1)
        whole = time.monotonic() - began
    finally:
        service.end()
    seen: Counter[str] = Counter()
    ends: Counter[int] = Counter()
    left: list[str] = []
    longest = 0.0
    for number in range(MOMENTS):
        service = started(tmp_path / str(number))
        try:
            with asked(service.port, seen):
                # Most of them where workers come up, which is the last tenth of it.
                time.sleep(whole * (1 - (1 - (number + 1) / MOMENTS) ** 2))
                service.send(signal.SIGTERM)
                told = time.monotonic()
                status = service.wait_end(seconds=END_SECONDS)
                longest = max(longest, time.monotonic() - told)
            ends[status] += 1
            # Before there is a worker nothing has to be put in order.
            if status != 0 and (status != -signal.SIGTERM or service.booted()):
                left.append(f"status {status} at moment {number}")
            if service.workers() or service.exporters() or not port_is_free(service.port):
                left.append(f"a process at moment {number}")
        finally:
            service.end()
    report.row(
        "SIGTERM during start-up",
        goal="refused connections or whole answers, and nothing is left",
        measured=len(left),
        unit=f"of {MOMENTS} moments left something",
        ok=not left and seen.keys() <= UNSERVED | {"200", "503"},
        left=left,
        exit_statuses=dict(ends),
        clients_saw=dict(seen),
        longest_s=round(longest, 1),
        start_s=round(whole, 1),
    )
