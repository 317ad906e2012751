"""A service of kit parts alone, with the routes of `notes`."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator

import asyncpg
import httpx2
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from app.main import create_app
from app.settings import Settings
from kit.tests.support import notes
from slipway_kit.config.server import ServerSettings
from slipway_kit.db import connection, pool
from slipway_kit.db.sessions import Database
from slipway_kit.db.settings import DatabaseSettings
from slipway_kit.runtime import runtime_of


@pytest.fixture(scope="session")
def notes_database(create_database: Callable[[str], str]) -> str:
    """A database with the tables of `notes` and no schema version."""
    url = create_database("notes")
    asyncio.run(execute(url, notes.CREATE))
    return url


@pytest.fixture
def notes_url(notes_database: str) -> Iterator[str]:
    """The same for one test; its notes are gone afterwards."""
    yield notes_database
    asyncio.run(execute(notes_database, "TRUNCATE notes"))


async def execute(url: str, statements: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(statements)
    await connection.close()


@pytest.fixture
def notes_settings(notes_url: str) -> DatabaseSettings:
    """Settings that let a busy machine take its time to connect."""
    return DatabaseSettings(url=SecretStr(notes_url), pool_size=2, pool_timeout_seconds=30)


@pytest.fixture
def idle_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every connection of a pool that comes back count as idle for long."""
    monkeypatch.setattr(pool, "PING_AFTER_SECONDS", 0)


@pytest.fixture
async def service(notes_settings: DatabaseSettings) -> AsyncIterator[FastAPI]:
    """The running service."""
    app = create_app(Settings(server=ServerSettings(metrics_port=0), database=notes_settings))
    app.include_router(notes.router)
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture
def database(service: FastAPI) -> Database:
    return runtime_of(service).get(Database)


@pytest.fixture
def full_pool_is_given_up(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for a connection that another holds for a moment only; to make one takes what it takes.

    `pool_timeout_seconds` bounds both.
    """
    monkeypatch.setattr(database.engine.pool, "_timeout", 0.02)
    monkeypatch.setattr(connection, "_LEAST_SECONDS", 30.0)


@pytest.fixture
async def api(service: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(service, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://service") as client:
        yield client


@pytest.fixture
async def look(notes_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A connection that sees what others have committed."""
    connection = await asyncpg.connect(notes_url)
    yield connection
    await connection.close()


@pytest.fixture(autouse=True)
def _fresh_notes() -> None:
    notes.held = notes.Held()
    notes.counted.clear()
