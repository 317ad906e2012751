"""The metrics of the connection pool."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from prometheus_client import REGISTRY
from pydantic import SecretStr
from sqlalchemy import text

from kit.tests.support.turns import turns, until
from slipway_kit.db.engine import open_database
from slipway_kit.db.errors import DatabaseBusy, DatabaseUnavailable
from slipway_kit.db.pool import PING_AFTER_SECONDS, MeasuredPool
from slipway_kit.db.sessions import Database
from slipway_kit.db.settings import DatabaseSettings

pytestmark = pytest.mark.anyio


@pytest.fixture
async def pool(notes_url: str) -> AsyncIterator[Database]:
    """A pool of one connection that may grow by one, without anybody who samples it."""
    settings = DatabaseSettings(
        url=SecretStr(notes_url), pool_size=1, max_overflow=1, pool_timeout_seconds=30
    )
    async with open_database(settings) as database:
        yield database


def metric(name: str) -> float:
    return REGISTRY.get_sample_value(f"db_pool_{name}") or 0


def sampled(database: Database) -> tuple[float, ...]:
    database.sample()
    return tuple(map(metric, ("size", "checked_out", "overflow", "waiting")))


async def use(database: Database) -> None:
    async with database.reading() as session:
        await session.execute(text("SELECT 1"))


async def test_the_gauges_follow_the_load_and_come_back(pool: Database) -> None:
    assert sampled(pool) == (1, 0, 0, 0)
    async with AsyncExitStack() as held:
        for connections in (1, 2):
            session = await held.enter_async_context(pool.reading())
            await session.execute(text("SELECT 1"))
            assert sampled(pool) == (1, connections, connections - 1, 0)
        waiter = asyncio.create_task(use(pool))
        await until(lambda: sampled(pool) == (1, 2, 1, 1))
    await waiter
    assert sampled(pool) == (1, 0, 0, 0)


async def test_a_wait_is_as_long_as_others_held_the_connections(
    pool: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(MeasuredPool, "clock", lambda _: now)
    count, seconds = metric("wait_seconds_count"), metric("wait_seconds_sum")
    async with AsyncExitStack() as held:
        for _ in range(2):
            session = await held.enter_async_context(pool.reading())
            await session.execute(text("SELECT 1"))
        assert metric("wait_seconds_sum") == seconds
        waiter = asyncio.create_task(use(pool))
        await until(lambda: sampled(pool)[3] == 1)
        now += 7
    await waiter
    assert metric("wait_seconds_count") == count + 3
    assert metric("wait_seconds_sum") - seconds == 7


async def test_one_that_would_wait_for_too_long_is_refused_at_once(
    pool: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(MeasuredPool, "clock", lambda _: now)
    queue_limit = pool.engine.pool._queue_limit  # type: ignore[attr-defined]
    queue_limit._clock, queue_limit._since = (lambda: now), now
    refused = REGISTRY.get_sample_value("admission_refused_total", {"limit": "db_pool"}) or 0
    async with AsyncExitStack() as held:
        for _ in range(2):
            session = await held.enter_async_context(pool.reading())
            await session.execute(text("SELECT 1"))
        now += 5
        # As many may wait as there are connections.
        waiters = [asyncio.create_task(use(pool)) for _ in range(2)]
        await until(lambda: sampled(pool)[3] == 2)
        with pytest.raises(DatabaseBusy, match="Too many requests are waiting for the database"):
            await use(pool)
        with pytest.raises(DatabaseBusy):
            async with pool.transaction() as session:
                await session.execute(text("SELECT 1"))
    await asyncio.gather(*waiters)
    counted = REGISTRY.get_sample_value("admission_refused_total", {"limit": "db_pool"})
    assert counted == refused + 2
    assert sampled(pool) == (1, 0, 0, 0)
    await use(pool)


async def test_connections_that_cannot_be_made_count_as_taken_for_that_time() -> None:
    settings = DatabaseSettings(url=SecretStr("postgresql://x@127.0.0.1:1/x"), pool_size=1)
    async with open_database(settings) as database:
        for _ in range(3):
            with pytest.raises(DatabaseUnavailable):
                await use(database)
        assert sampled(database) == (1, 0, 0, 0)
        queue_limit = database.engine.pool._queue_limit  # type: ignore[attr-defined]
        assert (queue_limit._in_use, queue_limit._releases > 2) == (0, True)


async def test_the_gate_hears_of_connections_that_are_given_back(pool: Database) -> None:
    queue_limit = pool.engine.pool._queue_limit  # type: ignore[attr-defined]
    for _ in range(3):
        await use(pool)
    assert (queue_limit._in_use, queue_limit._releases > 2) == (0, True)


@pytest.mark.parametrize("seconds", [PING_AFTER_SECONDS, PING_AFTER_SECONDS - 0.1])
async def test_whether_a_connection_lives_takes_one_round_trip_when_it_was_idle(
    pool: Database, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    now = 100.0
    monkeypatch.setattr(MeasuredPool, "clock", lambda _: now)
    asked: list[str] = []
    async with pool.engine.connect() as connection:
        raw = await connection.get_raw_connection()
        assert raw.driver_connection is not None
        raw.driver_connection.add_query_logger(lambda record: asked.append(record.query))
    now += seconds
    await use(pool)
    await turns()
    # What the pool is asked for is a statement that was prepared, of which no logger hears.
    assert asked == ([";"] if seconds >= PING_AFTER_SECONDS else [])


async def test_a_connection_that_was_closed_a_moment_ago_is_replaced_unseen(
    pool: Database,
) -> None:
    await use(pool)
    async with pool.engine.connect() as connection:
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
    driver.terminate()
    await use(pool)
    assert sampled(pool) == (1, 0, 0, 0)


async def test_a_wait_that_is_given_up_is_counted(
    pool: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    timeouts = metric("timeouts_total")
    async with AsyncExitStack() as held:
        for _ in range(2):
            session = await held.enter_async_context(pool.reading())
            await session.execute(text("SELECT 1"))
        # Not before: it bounds connecting too, for which a busy machine takes its time.
        monkeypatch.setattr(pool.engine.pool, "_timeout", 0.02)
        with pytest.raises(DatabaseUnavailable):
            await use(pool)
    assert metric("timeouts_total") == timeouts + 1
    assert sampled(pool) == (1, 0, 0, 0)


async def test_one_that_is_cancelled_while_it_waits_is_no_longer_counted(pool: Database) -> None:
    async with AsyncExitStack() as held:
        for _ in range(2):
            session = await held.enter_async_context(pool.reading())
            await session.execute(text("SELECT 1"))
        waiter = asyncio.create_task(use(pool))
        await until(lambda: sampled(pool)[3] == 1)
        waiter.cancel()
        await asyncio.wait([waiter])
        assert sampled(pool) == (1, 2, 1, 0)


async def test_what_a_url_says_of_sessions_holds_for_each_of_them(notes_url: str) -> None:
    joined = "&" if "?" in notes_url else "?"
    more = "options=-c%20search_path%3Dpg_catalog&target_session_attrs=read-write"
    settings = DatabaseSettings(url=SecretStr(f"{notes_url}{joined}{more}"))
    async with open_database(settings) as database:
        assert await database.rows(text("SHOW search_path")) == [{"search_path": "pg_catalog"}]
