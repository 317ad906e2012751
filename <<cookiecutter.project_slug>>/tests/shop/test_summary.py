"""The catalogue at a glance: counted once for all, anew behind their backs, never too old."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from fastapi.testclient import TestClient
from pydantic import ValidationError
from sqlalchemy import text
from structlog.testing import capture_logs

from app.features.shop.schemas import Summary
from app.features.shop.settings import Settings as ShopSettings
from app.features.shop.summaries import Summaries
from slipway_kit.concurrency import Cache, Tasks
from slipway_kit.db import Database
from slipway_kit.testing import soon

pytestmark = pytest.mark.anyio


def test_the_summary_counts_what_is_in_stock_says_its_age_and_is_kept(client: TestClient) -> None:
    client.post("/api/v1/games", json={"name": "Catan", "price": "49.90"})
    client.post("/api/v1/games", json={"name": "Chess", "price": "12", "in_stock": False})
    answer = client.get("/api/v1/games/summary")
    summary = answer.json()
    assert datetime.fromisoformat(summary.pop("as_of")).tzinfo
    assert summary == {"games": 2, "in_stock": 1, "value": "49.90"}
    assert answer.headers["age"] == "0"
    client.post("/api/v1/games", json={"name": "Go", "price": "38"})
    assert client.get("/api/v1/games/summary").json() == answer.json()


def test_a_summary_is_stale_before_it_is_too_old() -> None:
    with pytest.raises(ValidationError, match="not below SHOP_SUMMARY_MAX_AGE_SECONDS"):
        ShopSettings(summary_fresh_seconds=300)


class Clock:
    """Stands still until it is told."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def monotonic(self) -> float:
        return self.now.timestamp()

    def forward(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tasks() -> Tasks:
    return Tasks()


@pytest.fixture
def summaries(database: Database, tasks: Tasks, clock: Clock) -> Summaries:
    """Stale after 10 seconds, gone after 60."""
    cache = Cache("test", Summary, ttl_seconds=60, max_entries=1, clock=clock.monotonic)
    return Summaries(database, tasks, cache, fresh_seconds=10, now=lambda: clock.now)


async def add_game(database: Database) -> None:
    async with database.transaction() as session:
        await session.execute(
            text("INSERT INTO games (name, price) SELECT 'game ' || count(*), 1 FROM games")
        )


@asynccontextmanager
async def locked(database: Database) -> AsyncIterator[None]:
    """Let nobody read the games."""
    async with database.transaction() as session:
        await session.execute(text("LOCK TABLE games"))
        yield


async def test_a_fresh_summary_is_given_again(
    summaries: Summaries, database: Database, tasks: Tasks, clock: Clock
) -> None:
    first = await summaries.get()
    await add_game(database)
    clock.forward(9)
    assert await summaries.get() == first
    assert len(tasks) == 0
    assert summaries.age(first) == timedelta(seconds=9)


async def test_a_stale_summary_is_given_at_once_and_counted_anew_by_one_task(
    summaries: Summaries, database: Database, tasks: Tasks, clock: Clock
) -> None:
    old = await summaries.get()
    await add_game(database)
    clock.forward(11)
    async with locked(database):
        assert [await summaries.get() for _ in range(5)] == [old] * 5
        assert len(tasks) == 1
    await tasks.drain(grace_seconds=5)
    new = await summaries.get()
    assert (old.games, new.games) == (0, 1)
    assert summaries.age(new) == timedelta()
    assert database.connections_in_use == 0


async def test_a_count_that_fails_leaves_the_old_summary_and_the_next_reader_tries_again(
    summaries: Summaries,
    database: Database,
    tasks: Tasks,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old = await summaries.get()
    clock.forward(11)
    # To wait for a connection that another holds; to make one may take as long as it takes.
    monkeypatch.setattr(database.engine.pool, "_timeout", 0.02)
    with capture_logs() as events:
        # The pool has two connections.
        async with database.engine.connect(), database.engine.connect():
            assert await summaries.get() == old
            await soon(lambda: not len(tasks))
    assert [event["event"] for event in events] == ["task failed"]
    assert await summaries.get() == old
    assert len(tasks) == 1
    await tasks.drain(grace_seconds=5)
    assert (await summaries.get()).as_of == clock.now


async def test_a_summary_that_is_too_old_is_not_given_and_all_wait_for_one_count(
    summaries: Summaries, database: Database, tasks: Tasks, clock: Clock
) -> None:
    await summaries.get()
    await add_game(database)
    clock.forward(61)
    found = await asyncio.gather(*(summaries.get() for _ in range(20)))
    assert {summary.games for summary in found} == {1}
    assert len({summary.as_of for summary in found}) == 1
    assert len(tasks) == 0
