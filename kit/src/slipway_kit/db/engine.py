"""The engine of one worker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast
from uuid import uuid4

import asyncpg
import structlog
from sqlalchemy.engine import AdaptedConnection, Dialect
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import create_async_engine

from slipway_kit.db.connection import DISPOSE_SECONDS, checkout_seconds, connect
from slipway_kit.db.pool import MeasuredPool
from slipway_kit.db.sessions import Database
from slipway_kit.db.settings import DatabaseSettings
from slipway_kit.db.statements import trace_database
from slipway_kit.db.translation import translate_errors

log = structlog.get_logger()
# Below the idle timeout of common firewalls and load balancers.
POOL_RECYCLE_SECONDS = 1800


@asynccontextmanager
async def open_database(settings: DatabaseSettings) -> AsyncIterator[Database]:
    """Yield the database; connections open on first use, so a slow database delays no start."""
    arguments: dict[str, Any] = {"async_creator_fn": lambda **_: connect(settings)}
    if settings.pgbouncer:
        arguments["prepared_statement_cache_size"] = 0
        arguments["prepared_statement_name_func"] = lambda: f"__asyncpg_{uuid4()}__"
    engine = create_async_engine(
        "postgresql+asyncpg://",
        connect_args=arguments,
        poolclass=MeasuredPool,
        pool_size=settings.pool_size,
        max_overflow=settings.max_overflow,
        pool_timeout=settings.pool_timeout_seconds,
        pool_recycle=POOL_RECYCLE_SECONDS,
        pool_pre_ping=True,
        echo=settings.echo,
        hide_parameters=True,
    )
    _ping_in_one_trip(engine.dialect, pgbouncer=settings.pgbouncer)
    trace_database(engine.dialect, settings.address)
    translate_errors(engine.sync_engine)
    try:
        yield Database(engine, autocommit_reads=not settings.pgbouncer)
    finally:
        # With a deadline: each close waits for a server that may be unreachable.
        try:
            async with asyncio.timeout(DISPOSE_SECONDS):
                await engine.dispose()
        except TimeoutError:
            log.warning("database connections left open", seconds=DISPOSE_SECONDS)


def _ping_in_one_trip(dialect: Dialect, *, pgbouncer: bool) -> None:
    """Make the pool's ping cost one round trip, and replace the connection on any error.

    SQLAlchemy pings inside a transaction, which only pgbouncer needs: three round trips (its issue
    10226). It also lets network errors such as a timeout through, and the route would answer 500.
    """
    default_ping = dialect.do_ping

    def do_ping(dbapi_connection: DBAPIConnection) -> bool:
        connection = cast("AdaptedConnection", dbapi_connection)
        try:
            if pgbouncer:
                return default_ping(dbapi_connection)
            connection.run_async(_ping)
        except Exception as error:
            # Any error makes the connection useless. asyncpg raises unusual ones when the server
            # has ended the session but not closed the socket yet.
            connection.driver_connection.terminate()
            closed: type[Exception] = dialect.loaded_dbapi.InterfaceError
            raise closed("connection is closed") from error
        return True

    dialect.do_ping = do_ping  # type: ignore[method-assign]


async def _ping(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    # Not `execute` with an empty query: asyncpg then misreads the next answer.
    async with asyncio.timeout(checkout_seconds()):
        await connection.fetchrow(";")
