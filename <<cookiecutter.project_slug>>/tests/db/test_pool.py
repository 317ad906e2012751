"""The metrics of the connection pool."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from prometheus_client import REGISTRY
from pydantic import SecretStr
from sqlalchemy import text

from app.kit.database import Database, DatabaseSettings, DatabaseUnavailable, open_database
from app.kit.pool import MeasuredPool
from tests.support.turns import until

pytestmark = pytest.mark.anyio


@pytest.fixture
async def pool(notes_url: str) -> AsyncIterator[Database]:
    """A pool of one connection that may grow by one, without anybody who samples it."""
    settings = DatabaseSettings(
        url=SecretStr(notes_url), pool_size=1, max_overflow=1, pool_timeout_seconds=0.2
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


async def test_a_wait_that_is_given_up_is_counted(pool: Database) -> None:
    timeouts = metric("timeouts_total")
    async with AsyncExitStack() as held:
        for _ in range(2):
            session = await held.enter_async_context(pool.reading())
            await session.execute(text("SELECT 1"))
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
