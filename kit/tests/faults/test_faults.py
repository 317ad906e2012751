"""One fault after another under a strict load: what clients see of each, and what is lost of it.

The load writes through all of them; in the end everything that was acknowledged is read back.
"""

import asyncio
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import asyncpg
import psutil
import pytest
from pydantic import SecretStr

from kit.tests.e2e.load_job import Load
from kit.tests.e2e.report import Report
from kit.tests.faults import hostile
from kit.tests.faults.world import (
    RATE,
    Assistant,
    Database,
    WatchedService,
    service_with,
    total,
    under_load,
)
from kit.tests.runtime.harness import connected
from kit.tests.support.collector import Collector, open_collector
from kit.tests.support.paths import MIGRATIONS
from slipway_kit.db import migrations
from slipway_kit.db.settings import DatabaseSettings
from slipway_kit.testing.waiting import eventually

pytestmark = [
    pytest.mark.timeout(600),
    # PostgreSQL outlives the object that started it.
    pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning"),
]

CALM_SECONDS = 2.0
# A load that breaks down must not pass for a good one.
LEAST_RATE = 0.7 * RATE
# What a worker has under way, and the connections that it takes along.
OF_A_WORKER = 60
LATER_SECONDS = 3.0
REFUSED = "busy: 503 problem"
# What says that the service is there and cannot serve this now.
TOLD = frozenset({REFUSED, "sockets: error answer", "sockets: socket refused 503"})
LATE = TOLD | {"busy: 504"}
# Where computations, or others on the machine, take the CPU, admission refuses some of the load.
FEW = 0.1
# Of an answer that had begun when what it is made of was gone.
HALF = LATE | {"busy: end amid an answer"}
BROKEN = frozenset(
    {
        *("busy: end before an answer", "busy: reset before an answer", "busy: end amid an answer"),
        *("sockets: end of a socket", "sockets: reset of a socket", "busy: reset amid an answer"),
        *("sockets: socket ended 1012", "sockets: socket ended 1001", "busy: wrong answer"),
    }
)


@dataclass
class World:
    """The service and what can be broken."""

    database: Database
    collector: Collector
    assistant: Assistant
    service: WatchedService
    # What faults want to tell.
    said: dict[str, Any]


Strike = Callable[[World], AbstractContextManager[None]]


@dataclass(frozen=True)
class Fault:
    """What is done inside the block, and what may fail of it, until when after it."""

    strike: Strike
    goal: str
    allowed: frozenset[str] = frozenset()
    most: int | None = None
    lasts_seconds: float = 0.0


@contextmanager
def database_restarted(world: World) -> Iterator[None]:
    """Crash it, and start it again."""
    world.database.crash()
    world.database.start()
    yield


@contextmanager
def database_gone(world: World) -> Iterator[None]:
    """Have none for 20 s."""
    world.database.stop()
    time.sleep(20)
    world.database.start()
    yield


@contextmanager
def statements_hang(world: World) -> Iterator[None]:
    """Have every statement take 5 s."""
    frozen = world.database.freeze()
    world.said["statements that hang"] = len(frozen)
    time.sleep(5)
    for process in frozen:
        with suppress(psutil.NoSuchProcess):
            process.resume()
    yield


async def _statement(url: str, text: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(text)
    finally:
        await connection.close()


OTHERS = "FROM pg_stat_activity WHERE usename = 'postgres' AND pid <> pg_backend_pid()"


@contextmanager
def connections_cut(world: World) -> Iterator[None]:
    """Have the database end every connection, five times."""
    for _ in range(5):
        asyncio.run(_statement(world.database.url, f"SELECT pg_terminate_backend(pid) {OTHERS}"))
        time.sleep(0.5)
    yield


@contextmanager
def connections_taken(world: World) -> Iterator[None]:
    """Take every connection of the database that the service has not, and those it had."""

    async def take() -> None:
        taken = []
        give_up = time.monotonic() + 4
        cut = await asyncpg.connect(world.database.url)
        await cut.execute(f"SELECT pg_terminate_backend(pid) {OTHERS}")
        while time.monotonic() < give_up:
            try:
                taken.append(await asyncpg.connect(world.database.url))
            except asyncpg.PostgresError:
                await asyncio.sleep(0.02)
        world.said["connections taken"] = len(taken)
        for connection in [*taken, cut]:
            await connection.close()

    asyncio.run(take())
    yield


@contextmanager
def upstream_slow(world: World) -> Iterator[None]:
    """Have advice take 3 s."""
    world.assistant.seconds = 3
    time.sleep(5)
    world.assistant.seconds = 0
    yield


@contextmanager
def upstream_dead(world: World) -> Iterator[None]:
    """Have nobody listen where advice comes from."""
    port = world.assistant.server_port
    world.assistant.end()
    time.sleep(5)
    world.assistant = Assistant.started(port)
    yield


def collector_that(mode: str) -> Strike:
    """Return what has the collector misbehave."""

    @contextmanager
    def strike(world: World) -> Iterator[None]:
        world.collector.mode = mode
        time.sleep(4)
        world.collector.mode = "ok"
        yield

    return strike


@contextmanager
def worker_killed(world: World) -> Iterator[None]:
    """Kill one."""
    workers = world.service.workers()
    world.service.kill(workers[0])
    eventually(lambda: len(set(world.service.workers()) - set(workers)) == 1)
    yield


@contextmanager
def loop_blocked(world: World) -> Iterator[None]:
    """Have one event loop stand still until its worker is replaced."""
    workers = world.service.workers()

    def block() -> None:
        with suppress(Exception):
            world.service.get("/scenarios/block?seconds=60", timeout=30)

    threading.Thread(target=block, daemon=True).start()
    eventually(lambda: len(set(world.service.workers()) - set(workers)) == 1, seconds=20)
    yield


@contextmanager
def computing_child_killed(world: World) -> Iterator[None]:
    """Kill the processes that compute, while they are asked to."""
    found: Counter[int] = Counter()
    over = threading.Event()

    def compute() -> None:
        with connected(world.service.port, timeout=20) as connection:
            while not over.is_set():
                connection.request("GET", "/scenarios/compute?seconds=0.1")
                answer = connection.getresponse()
                answer.read()
                found[answer.status] += 1

    asking = [threading.Thread(target=compute) for _ in range(2)]
    for each in asking:
        each.start()
    killed = 0
    for _ in range(4):
        time.sleep(0.5)
        for child in world.service.grandchildren():
            with suppress(psutil.NoSuchProcess):
                child.kill()
                killed += 1
    time.sleep(1)
    over.set()
    for each in asking:
        each.join()
    world.said["computations"] = {"killed": killed, **found}
    assert killed > 0
    assert found[200] > 0
    assert set(found) <= {200, 503}
    yield


@contextmanager
def threads_full(world: World) -> Iterator[None]:
    """Have every thread of plain `def` routes busy, and many wait."""
    found: Counter[int] = Counter()

    def ask() -> None:
        found[world.service.get("/scenarios/thread?seconds=2", timeout=20)[0]] += 1

    asking = [threading.Thread(target=ask) for _ in range(60)]
    for each in asking:
        each.start()
    for each in asking:
        each.join()
    world.said["calls for threads"] = dict(found)
    assert {200, 503} <= set(found) <= {200, 503, 504}
    yield


@contextmanager
def log_stalled(world: World) -> Iterator[None]:
    """Have nobody read what the service logs, for more lines than a pipe takes."""
    with world.service.reader.stalled():
        time.sleep(8)
    yield


def clients_that(talk: hostile.Talk, *ends: str) -> Strike:
    """Return what has many clients behave like that, whose connections end in one of these ways."""

    @contextmanager
    def strike(world: World) -> Iterator[None]:
        with hostile.crowd(world.service.port, talk) as connections:
            found = hostile.statuses(connections)
        world.said[talk.__name__] = dict(found)
        assert set(found) <= set(ends), found
        yield

    return strike


@contextmanager
def clients_that_say_nothing(world: World) -> Iterator[None]:
    """Have many connections on which nothing is said."""
    with hostile.crowd(world.service.port, hostile.says_nothing):
        time.sleep(3)
    yield


NOTHING = "nobody notices"
PROBLEMS = "503 problems with Retry-After, a stream that breaks off, and answers again soon after"
FAULTS = {
    "PostgreSQL crashes and is started again": Fault(
        database_restarted, PROBLEMS, HALF, lasts_seconds=LATER_SECONDS
    ),
    "PostgreSQL is gone for 20 s": Fault(
        database_gone, PROBLEMS, HALF, lasts_seconds=LATER_SECONDS
    ),
    "every statement takes 5 s": Fault(
        statements_hang,
        "503 or 504 problems, a stream that breaks off, and answers again soon after",
        HALF,
        lasts_seconds=LATER_SECONDS,
    ),
    "the database ends all connections, five times": Fault(
        connections_cut, PROBLEMS, HALF, lasts_seconds=LATER_SECONDS
    ),
    "the database has no connection left for 4 s": Fault(
        connections_taken, PROBLEMS, HALF, lasts_seconds=LATER_SECONDS
    ),
    "an upstream takes 3 s": Fault(upstream_slow, NOTHING),
    "an upstream is dead": Fault(
        upstream_dead, "503 problems for what needs it", TOLD, lasts_seconds=LATER_SECONDS
    ),
    "the trace collector hangs": Fault(collector_that("hang"), NOTHING),
    "the trace collector resets connections": Fault(collector_that("reset"), NOTHING),
    "the trace collector answers 503": Fault(collector_that("503"), NOTHING),
    "a worker is killed": Fault(
        worker_killed,
        "each of its connections loses one request at most",
        BROKEN | LATE,
        most=OF_A_WORKER,
        lasts_seconds=LATER_SECONDS,
    ),
    "an event loop stands still": Fault(
        loop_blocked,
        "each of its worker's connections loses one request at most",
        BROKEN | LATE,
        most=OF_A_WORKER,
        lasts_seconds=LATER_SECONDS,
    ),
    "processes that compute are killed": Fault(computing_child_killed, NOTHING),
    "all threads are busy, and many wait": Fault(
        threads_full, "503 or 504 problems for who needs a thread, nobody else notices"
    ),
    "nobody reads the log": Fault(log_stalled, NOTHING),
    "150 clients leave before their answer": Fault(clients_that(hostile.leaves, "left"), NOTHING),
    "150 clients say nothing": Fault(clients_that_say_nothing, NOTHING),
    "150 clients never end the head of a request": Fault(
        clients_that(hostile.asks_slowly, "408"), "408 for them, nobody else notices"
    ),
    "150 clients send huge headers": Fault(
        clients_that(hostile.sends_huge_headers, "431", "no word"),
        "431 for them, nobody else notices",
    ),
    "150 clients send garbage after requests": Fault(
        clients_that(hostile.sends_garbage, "400", "200", "no word"),
        "400 for them, nobody else notices",
    ),
    "150 clients send half a body": Fault(
        clients_that(hostile.sends_half_a_body, "408"), "408 for them, nobody else notices"
    ),
}


@dataclass(frozen=True)
class Struck:
    """When something began, was over, and had been given time to pass."""

    began: float
    over: float
    ended: float
    broke: str


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Everything, running."""
    database = Database()
    log = tmp_path_factory.mktemp("log") / "log"
    migrations.upgrade(DatabaseSettings(url=SecretStr(database.url)), MIGRATIONS)
    with open_collector() as collector:
        assistant = Assistant.started()
        service = service_with(database, collector, assistant, log)
        found = World(database, collector, assistant, service, {})
        yield found
        found.service.end()
        found.assistant.end()
        database.remove()


@pytest.fixture(scope="module")
def struck() -> dict[str, Struck]:
    """All faults by name, once `load` is over."""
    return {}


@pytest.fixture(scope="module")
def load(world: World, struck: dict[str, Struck]) -> Load:
    """What clients saw while one fault after another struck."""
    with under_load(world.service.port) as load:
        time.sleep(CALM_SECONDS)
        for name, fault in FAULTS.items():
            struck[name] = _strike(world, fault)
    return load


def _strike(world: World, fault: Fault) -> Struck:
    began, broke = time.time(), ""
    try:
        with fault.strike(world):
            pass
    except Exception as error:  # noqa: BLE001 - its row tells of it, and the others go on
        broke = repr(error)
    over = time.time()
    time.sleep(fault.lasts_seconds + CALM_SECONDS)
    return Struck(began, over, time.time(), broke)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_seen_as_it_is_said(
    name: str, world: World, load: Load, struck: dict[str, Struck], report: Report
) -> None:
    fault, strike = FAULTS[name], struck[name]
    seen = load.within(strike.began, strike.ended)
    after = load.within(strike.over + fault.lasts_seconds, strike.ended)
    strange = seen.kinds.keys() - fault.allowed
    if seen.kinds.get(REFUSED, 0) <= FEW * seen.requests:
        strange -= {REFUSED}
    report.row(
        name,
        goal=fault.goal,
        measured=seen.failed,
        unit=f"of {seen.requests} requests failed",
        ok=(
            not strike.broke
            and not strange
            and after.failed == 0
            and (fault.most is None or seen.failed <= fault.most)
            and seen.requests >= LEAST_RATE * (strike.ended - strike.began - 1)
        ),
        reason=strike.broke,
        failures=seen.kinds,
        last_failure_after_s=round(max(seen.lasted - (strike.over - strike.began), 0), 1),
        seconds=round(strike.over - strike.began, 1),
    )


def test_every_acknowledged_write_is_there_after_all_of_them(load: Load, report: Report) -> None:
    report.row(
        "acknowledged writes after all of these faults",
        goal="all are read back",
        measured=len(load.missing_writes),
        unit="missing",
        ok=not load.missing_writes and load.result["writes"].get("acknowledged", 1) > 0,
        **load.counts(),
    )


def test_no_answer_was_a_bug(world: World, load: Load, report: Report) -> None:
    bugs = world.service.events_so_far("unhandled error")
    found = {kind: count for kind, count in load.counts()["failures"].items() if "500" in kind}
    report.row(
        "answers of 500",
        goal="none, for every fault has a name",
        measured=sum(found.values()) + len(bugs),
        ok=not found and not bugs,
        said=world.said,
        lines=bugs[:3],
        dropped_log_lines=total(world.service.metrics(), "log_lines_dropped_total"),
    )


def test_it_leaves_in_order_after_all_of_them(world: World, report: Report) -> None:
    os.kill(world.service.master, signal.SIGTERM)
    time.sleep(0.3)
    os.kill(world.service.master, signal.SIGTERM)
    status = world.service.wait_end(seconds=20)
    report.row(
        "SIGTERM, twice, after all of these faults",
        goal="exit status 0, and nothing is left",
        measured=status,
        ok=status == 0 and not world.service.workers(),
    )
