import asyncio
from dataclasses import dataclass

import pytest

from slipway_kit.db.migrations import Versions
from slipway_kit.http.probes import Readiness

pytestmark = pytest.mark.anyio

VERSIONS = Versions(heads=frozenset({"3"}), known=frozenset({"1", "2", "3"}))


class FakeDatabase:
    """Answers with `found`, or raises when it is down, and counts the questions."""

    def __init__(self, *found: str) -> None:
        self.found, self.down, self.asked = frozenset(found), False, 0
        self.answering = asyncio.Event()
        self.answering.set()

    async def look(self) -> frozenset[str]:
        self.asked += 1
        await self.answering.wait()
        if self.down:
            raise ConnectionRefusedError
        return self.found


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def readiness(
    database: FakeDatabase, clock: Clock, *, requires_database: bool = False
) -> Readiness:
    return Readiness(database.look, VERSIONS, requires_database=requires_database, clock=clock)


@pytest.mark.parametrize(
    ("found", "obstacle"),
    [
        ((), "The database has no revision; this code needs 3."),
        (("2",), "The database is at revision 2, older than 3."),
        (("3",), None),
        (("4",), None),
    ],
)
async def test_an_empty_or_older_schema_is_an_obstacle_and_an_equal_or_newer_one_is_none(
    found: tuple[str, ...], obstacle: str | None, clock: Clock
) -> None:
    assert await readiness(FakeDatabase(*found), clock).obstacle() == obstacle


async def test_a_service_without_migrations_fits_any_database() -> None:
    assert Versions(frozenset(), frozenset()).obstacle(frozenset()) is None


async def test_an_answer_is_used_for_a_second(clock: Clock) -> None:
    database = FakeDatabase("2")
    ready = readiness(database, clock)
    await ready.obstacle()
    clock.now += 0.9
    await ready.obstacle()
    assert database.asked == 1
    clock.now += 0.1
    database.found = frozenset({"3"})
    assert await ready.obstacle() is None
    assert database.asked == 2


async def test_many_probes_at_once_ask_once(clock: Clock) -> None:
    database = FakeDatabase("3")
    ready = readiness(database, clock)
    assert await asyncio.gather(*(ready.obstacle() for _ in range(20))) == [None] * 20
    assert database.asked == 1


async def test_a_prober_that_hangs_up_leaves_the_question_to_the_others(clock: Clock) -> None:
    database = FakeDatabase("3")
    database.answering.clear()
    ready = readiness(database, clock)
    impatient = asyncio.create_task(ready.obstacle())
    patient = asyncio.create_task(ready.obstacle())
    await asyncio.sleep(0)
    impatient.cancel()
    database.answering.set()
    assert await patient is None
    assert database.asked == 1


async def test_once_it_fitted_an_outage_of_the_database_is_no_obstacle(clock: Clock) -> None:
    database = FakeDatabase("3")
    ready = readiness(database, clock)
    await ready.obstacle()
    database.down = True
    clock.now += 60
    assert await ready.obstacle() is None
    assert database.asked == 1


async def test_an_outage_is_an_obstacle_when_readiness_requires_the_database(clock: Clock) -> None:
    database = FakeDatabase("3")
    ready = readiness(database, clock, requires_database=True)
    assert await ready.obstacle() is None
    database.down = True
    clock.now += 60
    assert await ready.obstacle() == "The database does not answer."
    database.down = False
    database.found = frozenset()
    clock.now += 60
    assert await ready.obstacle() is None, "the schema fitted before"


async def test_before_its_first_answer_a_database_out_of_reach_is_an_obstacle(clock: Clock) -> None:
    database = FakeDatabase("3")
    database.down = True
    ready = readiness(database, clock)
    assert await ready.obstacle() == "The database does not answer."


async def test_a_database_that_never_answers_is_an_obstacle_within_the_deadline(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slipway_kit.http.probes.DEADLINE_SECONDS", 0.01)
    database = FakeDatabase("3")
    database.answering.clear()
    assert await readiness(database, clock).obstacle() == "The database does not answer."


async def test_closing_ends_an_open_question(clock: Clock) -> None:
    database = FakeDatabase("3")
    database.answering.clear()
    ready = readiness(database, clock)
    probe = asyncio.create_task(ready.obstacle())
    await asyncio.sleep(0)
    await ready.close()
    with pytest.raises(asyncio.CancelledError):
        await probe
    await readiness(database, clock).close()


async def test_a_worker_that_nobody_asks_finds_out_by_itself_and_then_asks_no_more(
    clock: Clock,
) -> None:
    database, pauses = FakeDatabase(), list[float]()

    async def sleep(seconds: float) -> None:
        clock.now += seconds
        pauses.append(seconds)
        database.found = frozenset({"3"})

    ready = readiness(database, clock)
    await ready.settle(sleep=sleep)
    assert (database.asked, pauses) == (2, [5.0])
    database.down = True
    assert await ready.obstacle() is None
    assert database.asked == 2
