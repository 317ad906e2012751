"""Fixtures for the tests of a service: a real PostgreSQL, the app, a client, its log.

A service's `tests/conftest.py` names this module in `pytest_plugins` and says in a fixture
`service_parts` what makes its app and its settings.
"""

import asyncio
import itertools
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
import structlog
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import SecretStr
from structlog.testing import capture_logs
from structlog.typing import EventDict

from slipway_kit.config.server import ServerSettings
from slipway_kit.db import migrations
from slipway_kit.db.engine import open_database
from slipway_kit.db.sessions import Database
from slipway_kit.db.settings import DatabaseSettings
from slipway_kit.dev.postgres import open_postgres
from slipway_kit.testing.parts import ServiceParts
from slipway_kit.testing.upstream import Upstream, open_upstream

_numbers = itertools.count()


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def _no_settings_from_outside(service_parts: ServiceParts) -> Iterator[None]:
    groups = service_parts.settings.groups()
    names = {name for group in groups for name in group.variables()} & os.environ.keys()
    kept = {name: os.environ.pop(name) for name in names}
    yield
    os.environ.update(kept)


@pytest.fixture
def restored_logs() -> Iterator[None]:
    """Undo what `LogSetup.apply` does to the whole process."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = handlers, level
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A server whose database `postgres` stays empty."""
    with open_postgres() as url:
        yield url


@pytest.fixture(scope="session")
def create_database(postgres_url: str) -> Callable[[str], str]:
    """Give a function that creates an empty database and returns its URL."""

    def create(name: str) -> str:
        asyncio.run(_execute(postgres_url, f"CREATE DATABASE {name}"))
        return urlsplit(postgres_url)._replace(path=f"/{name}").geturl()

    return create


@pytest.fixture(scope="session")
def migrated_url(create_database: Callable[[str], str], service_parts: ServiceParts) -> str:
    """A database with the newest schema."""
    url = create_database("migrated")
    migrations.upgrade(DatabaseSettings(url=SecretStr(url)), service_parts.migrations)
    return url


@pytest.fixture
def empty_url(create_database: Callable[[str], str]) -> str:
    """A database without a schema, for one test alone."""
    return create_database(f"empty_{next(_numbers)}")


@pytest.fixture
def database_settings(migrated_url: str) -> Iterator[DatabaseSettings]:
    """The migrated database; it is empty again afterwards."""
    # A busy machine may take longer to connect than a request would wait.
    yield DatabaseSettings(url=SecretStr(migrated_url), pool_timeout_seconds=30)
    asyncio.run(_empty_tables(migrated_url))


@pytest.fixture
def settings(database_settings: DatabaseSettings, service_parts: ServiceParts) -> Any:
    """The service's settings on the migrated database, without a metrics port."""
    server = ServerSettings(metrics_port=0)
    return service_parts.settings(server=server, database=database_settings)


@pytest.fixture
def app(settings: Any, service_parts: ServiceParts) -> FastAPI:
    """The service, not yet started."""
    return service_parts.create_app(settings)


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    """A client of the started service; a bug in it is an answer, as it is for others."""
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def events(client: TestClient) -> Iterator[list[EventDict]]:
    """What the service logs while the test runs."""
    with capture_logs() as entries:
        yield entries


@pytest.fixture
async def database(database_settings: DatabaseSettings) -> AsyncIterator[Database]:
    """The migrated database behind a pool of two connections."""
    settings = database_settings.model_copy(update={"pool_size": 2})
    async with open_database(settings) as database:
        yield database


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    """Another service that answers well or badly, by path."""
    async with open_upstream() as upstream:
        yield upstream


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(statement)
    await connection.close()


async def _empty_tables(url: str) -> None:
    connection = await asyncpg.connect(url)
    names = await connection.fetch(
        "SELECT tablename FROM pg_tables"
        " WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
    )
    if tables := ", ".join(row["tablename"] for row in names):
        await connection.execute(f"TRUNCATE {tables} RESTART IDENTITY CASCADE")
    await connection.close()
