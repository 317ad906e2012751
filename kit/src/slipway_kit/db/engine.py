"""The engine of one worker, and what an error of its driver means."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast
from uuid import uuid4

import asyncpg
import structlog
from sqlalchemy import event
from sqlalchemy.engine import AdaptedConnection, Dialect, ExceptionContext
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from slipway_kit.db.connection import DISPOSE_SECONDS, connect
from slipway_kit.db.errors import DatabaseUnavailable, StatementTimeout
from slipway_kit.db.pool import MeasuredPool
from slipway_kit.db.sessions import Database
from slipway_kit.db.settings import DatabaseSettings
from slipway_kit.db.statements import trace_database
from slipway_kit.tracing.origin import Origin

log = structlog.get_logger()
# Below the idle time after which firewalls and balancers forget a connection.
POOL_RECYCLE_SECONDS = 1800


_QUERY_CANCELLED = "57014"
# Shutting down, crashed, starting up; connection failures; too many connections.
_GONE = ("57P01", "57P02", "57P03", "08", "53300")


@asynccontextmanager
async def open_database(
    settings: DatabaseSettings, *, spans: type[Origin] = Origin
) -> AsyncIterator[Database]:
    """Create the engine; connections open on first use, so a slow database delays no start.

    Where traces are open, `spans` makes one of each statement.
    """
    engine = _engine(settings, spans)
    try:
        yield Database(engine, autocommit_reads=not settings.pgbouncer)
    finally:
        await _dispose(engine)


def _engine(settings: DatabaseSettings, spans: type[Origin]) -> AsyncEngine:
    arguments: dict[str, Any] = {"async_creator_fn": _connector(settings)}
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
    trace_database(engine.dialect, settings.address, origin=spans)
    event.listen(engine.sync_engine, "handle_error", _driver_error)
    return engine


def _ping_in_one_trip(dialect: Dialect, *, pgbouncer: bool) -> None:
    """Have the pool ask a connection at little cost whether it lives.

    SQLAlchemy asks inside a transaction, which pgbouncer needs: three round trips in place of one
    (its issue 10226). And the network's own errors pass it by there: one that does not answer in
    time, which is closed as well, would be a bug of the route.
    """
    asks = dialect.do_ping

    def do_ping(dbapi_connection: DBAPIConnection) -> bool:
        connection = cast("AdaptedConnection", dbapi_connection)
        try:
            if pgbouncer:
                return asks(dbapi_connection)
            connection.run_async(_ask)
        except Exception as error:
            # However it failed, it is of no use; the server may have said its last word and not
            # have closed it yet, on which asyncpg trips in ways of its own.
            connection.driver_connection.terminate()
            closed: type[Exception] = dialect.loaded_dbapi.InterfaceError
            raise closed("connection is closed") from error
        return True

    dialect.do_ping = do_ping  # type: ignore[method-assign]


async def _ask(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    # Not `execute` with nothing: that leaves asyncpg confused about the next answer.
    await connection.fetchrow(";")


async def _dispose(engine: AsyncEngine) -> None:
    """Close the pool; each close waits for the server, which may be out of reach."""
    try:
        async with asyncio.timeout(DISPOSE_SECONDS):
            await engine.dispose()
    except TimeoutError:
        log.warning("database connections left open", seconds=DISPOSE_SECONDS)


def _connector(
    settings: DatabaseSettings,
) -> Callable[..., Awaitable["asyncpg.Connection[asyncpg.Record]"]]:
    async def connector(**_: object) -> "asyncpg.Connection[asyncpg.Record]":
        return await connect(settings)

    return connector


def _driver_error(context: ExceptionContext) -> None:
    """Translate what the driver raised; its raw `OSError` and `TimeoutError` are the network's.

    Those of the code above, such as a route's own `TimeoutError`, never come here.
    """
    error = context.original_exception
    # The pool answers a failed ping with a new connection.
    if context.is_pre_ping or not isinstance(error, Exception):
        return
    lost = isinstance(error, OSError) or _sqlstate(error).startswith(_GONE)
    context.is_disconnect = context.is_disconnect or lost
    if _sqlstate(error) == _QUERY_CANCELLED:
        raise StatementTimeout from error
    if context.is_disconnect:
        raise DatabaseUnavailable from error


def _sqlstate(error: BaseException) -> str:
    return getattr(error, "sqlstate", None) or ""
