"""Workers that are recycled under full load: nobody notices, and it costs next to nothing."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from kit.tests.e2e.load import wire
from kit.tests.e2e.report import Report, Row
from kit.tests.faults.world import WatchedService
from kit.tests.runtime.harness import environment
from kit.tests.support import ports

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning"),
]

CONNECTIONS = 16
ROUNDS, SECONDS = 8, 1.5
# Each worker is replaced every three seconds or so, at the rate of this load.
MAX_REQUESTS = 10_000
GOAL = 0.95


async def _keep_asking(port: int, until: float, found: Counter[str]) -> None:
    loop = asyncio.get_running_loop()
    connection: wire.Connection | None = None
    while loop.time() < until:
        try:
            connection = connection or await wire.connect("127.0.0.1", port)
            answer = await connection.ask("GET", "/scenarios/pid")
        except wire.Failure as failure:
            found[failure.kind] += 1
            connection = None
            continue
        found["answered" if answer.status == 200 else str(answer.status)] += 1
        if answer.closing:
            connection.close()
            connection = None
    if connection is not None:
        connection.close()


async def _load(port: int) -> Counter[str]:
    """Ask on so many connections, each as soon as it has its answer; a reset or an end counts."""
    found: Counter[str] = Counter()
    until = asyncio.get_running_loop().time() + SECONDS
    await asyncio.gather(*(_keep_asking(port, until, found) for _ in range(CONNECTIONS)))
    return found


@pytest.fixture
def services(tmp_path: Path) -> Iterator[list[WatchedService]]:
    """One whose workers stay, and one whose workers are recycled."""
    found = []
    try:
        for requests in (0, MAX_REQUESTS):
            url = f"postgresql://u:p@127.0.0.1:{ports.free()}/none"
            settings = environment(url, MAX_REQUESTS=requests, SHUTDOWN_SECONDS=10)
            found.append(WatchedService(tmp_path / f"log{requests}", settings))
            found[-1].wait_ready(2)
        yield found
    finally:
        for service in found:
            service.end()


def test_nobody_notices_that_workers_are_recycled(
    services: list[WatchedService], report: Report
) -> None:
    counts: list[list[Counter[str]]] = [[], []]
    for _ in range(ROUNDS):
        for service, mine in zip(services, counts, strict=True):
            mine.append(asyncio.run(_load(service.port)))
    ratios = [
        recycled["answered"] / stayed["answered"] for stayed, recycled in zip(*counts, strict=True)
    ]
    # A round may have two that are recycled, or none: what counts is all of them together.
    stayed, others = (sum(count["answered"] for count in each) for each in counts)
    failures = sum((count - Counter(answered=count["answered"]) for count in counts[1]), Counter())
    recycled = len(services[1].events_so_far("worker is recycled"))
    # A figure, and no reason to fail: a shared machine may stand still in one half of a round.
    report.add(
        Row(
            "requests served while workers are recycled",
            goal=f"at least {GOAL} of those that workers serve which stay",
            measured=round(others / stayed, 3),
            unit="of them",
            ok=others / stayed >= GOAL,
            counts={"rounds": [round(ratio, 3) for ratio in ratios]},
        )
    )
    report.row(
        "workers are recycled under full load",
        goal="nobody notices",
        measured=sum(failures.values()),
        unit="requests failed",
        ok=not failures and recycled > 0,
        recycled=recycled,
        failures=dict(failures),
        answered=[stayed, others],
    )
