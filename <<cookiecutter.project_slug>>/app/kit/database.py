"""The engine, its pool, one transaction per request, and what a database out of reach means."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Annotated, Any, Self, cast
from uuid import uuid4

import asyncpg
import structlog
from fastapi import Depends
from pydantic import Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict
from sqlalchemy import Executable, MetaData, Result, event
from sqlalchemy.engine import AdaptedConnection, Dialect, ExceptionContext
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.util import greenlet_spawn
from starlette.requests import HTTPConnection

from . import dsn
from .environment import Group
from .errors import DeadlineExceeded, Overloaded, Unavailable
from .pool import MeasuredPool, PoolBusyError
from .statements import trace_database

# Below the idle time after which firewalls and balancers forget a connection.
POOL_RECYCLE_SECONDS = 1800
# A transaction that nobody continues, such as an export whose reader stalls, is ended after this.
IDLE_IN_TRANSACTION_MS = 60_000
# PostgreSQL ends a statement by itself; this much later it must be out of reach.
NETWORK_GRACE_SECONDS = 1.0
# Of the time that others wait for a connection: one that hangs is given up while they still do.
CONNECT_SHARE = 0.75
DISPOSE_SECONDS = 1.0

log = structlog.get_logger()

_QUERY_CANCELLED = "57014"
# Shutting down, crashed, starting up; connection failures; too many connections.
_GONE = ("57P01", "57P02", "57P03", "08", "53300")
_SEPARATE_FIELDS = {"host", "port", "name", "user"}


class DatabaseUnavailable(Unavailable):
    """The database is down, out of reach, or has no connection left for this request."""

    def __init__(self, detail: str = "The database is not available; try again soon.") -> None:
        super().__init__(detail)


class DatabaseBusy(DatabaseUnavailable, Overloaded):
    """So many wait for a connection of the pool that one more would wait for too long."""

    def __init__(self) -> None:
        super().__init__("Too many requests wait for the database; try again soon.")


class StatementTimeout(DeadlineExceeded):
    """A query ran longer than DATABASE_STATEMENT_TIMEOUT_MS allows."""

    def __init__(self) -> None:
        super().__init__("The database took too long to answer.")


class DatabaseSettings(Group):
    """Where the database is, and how much of it one worker process may take."""

    model_config = SettingsConfigDict(env_prefix="DATABASE_")

    url: SecretStr | None = Field(
        default=None, description="postgresql://user:password@host:port/name; or the parts below"
    )
    host: str = Field(default="127.0.0.1", description="name, address or socket folder")
    port: int = Field(default=5432, ge=1, le=65535)
    name: str = Field(default="postgres", description="name of the database")
    user: str = Field(default="postgres", description="role that owns or uses the tables")
    password: SecretStr | None = Field(default=None, description="password of the role")
    password_file: Path | None = Field(
        default=None, description="file with the password, read for each new connection"
    )
    required: bool = Field(
        default=False, description="refuse to start when the database does not answer"
    )
    pool_size: int = Field(default=10, ge=1, le=500, description="connections per worker")
    max_overflow: int = Field(
        default=0, ge=0, le=500, description="connections beyond the pool under a burst"
    )
    pool_timeout_seconds: float = Field(
        default=2, gt=0, le=60, description="seconds to wait for a connection, else 503"
    )
    statement_timeout_ms: int = Field(
        default=5000, ge=1, le=3_600_000, description="milliseconds a statement may run, else 504"
    )
    pgbouncer: bool = Field(
        default=False,
        description="a pgbouncer in transaction mode is between; set statement_timeout on the role",
    )
    echo: bool = Field(default=False, description="log every statement; refused in production")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.url is not None and (twice := _SEPARATE_FIELDS & self.model_fields_set):
            name = f"DATABASE_{min(twice).upper()}"
            raise ValueError(f"DATABASE_URL and {name} say the same thing twice; set one of them")
        if self.url is not None and self.address.password and (self.password or self.password_file):
            raise ValueError("DATABASE_URL has a password already; remove the other one")
        if self.password and self.password_file:
            raise ValueError("set DATABASE_PASSWORD or DATABASE_PASSWORD_FILE, not both")
        if self.password_file:
            self._read_password()
        try:
            self.address.arguments()
        except dsn.AddressError as error:
            raise ValueError(f"DATABASE_URL: {error}") from None
        return self

    @property
    def address(self) -> dsn.Address:
        """Where the database is, from the URL or from the separate settings."""
        if self.url is None:
            return dsn.Address(self.host, self.port, self.user, name=self.name)
        try:
            return dsn.parse(self.url.get_secret_value())
        except dsn.AddressError as error:
            raise ValueError(f"DATABASE_URL: {error}") from None

    @property
    def connect_arguments(self) -> dict[str, Any]:
        """Keywords for `asyncpg.connect`, made anew from files that may have been rotated."""
        arguments = self.address.arguments()
        if self.password is not None:
            arguments["password"] = self.password.get_secret_value()
        if self.password_file is not None:
            arguments["password"] = self._read_password()
        arguments["timeout"] = self.pool_timeout_seconds * CONNECT_SHARE
        arguments["server_settings"] = self._server_settings()
        arguments["command_timeout"] = self.statement_timeout_ms / 1000 + NETWORK_GRACE_SECONDS
        if self.pgbouncer:
            # Statements prepared on one server connection are unknown to the next.
            arguments["statement_cache_size"] = 0
        return arguments

    def _server_settings(self) -> dict[str, str]:
        name = self.address.application_name or socket.gethostname()
        settings = {"application_name": name[:63]}
        if not self.pgbouncer:  # which refuses unknown start-up parameters
            settings["statement_timeout"] = str(self.statement_timeout_ms)
            settings["idle_in_transaction_session_timeout"] = str(IDLE_IN_TRANSACTION_MS)
        return settings

    def _read_password(self) -> str:
        assert self.password_file is not None  # noqa: S101 - callers look first
        try:
            return self.password_file.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError):
            raise ValueError(
                f"DATABASE_PASSWORD_FILE {self.password_file} cannot be read"
            ) from None


class Model(DeclarativeBase):
    """Base of every table; constraints have names, so that migrations can drop them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class Database:
    """The engine of one worker and the ways to get a session from it."""

    def __init__(self, engine: AsyncEngine, *, autocommit_reads: bool = True) -> None:
        self.engine = engine
        self._autocommit_reads = autocommit_reads
        readers = engine
        if autocommit_reads:
            readers = engine.execution_options(isolation_level="AUTOCOMMIT")
        # expire_on_commit would make attribute access after a commit a hidden query, which async
        # code cannot await.
        self._writing = async_sessionmaker(engine, expire_on_commit=False)
        self._reading = async_sessionmaker(readers, expire_on_commit=False, autoflush=False)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """Give a session that commits when the block succeeds and rolls back when it raises."""
        with self._place():
            async with self._writing.begin() as session:
                yield session

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """Give a session for reads alone: no transaction, each statement sees the newest data.

        Behind pgbouncer it is a transaction that is rolled back.
        """
        with self._place():
            async with self._reading() as session:
                yield session

    async def rows(
        self, query: Executable, parameters: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Return what one query finds, each row as a dict by the names of its columns.

        There is no transaction, as in `reading`, and no session that makes objects of rows: for
        routes that are asked all the time.
        """
        with self._place():
            # SQLAlchemy makes a greenlet, with a stack of its own, for each step of a connection:
            # to open, to ask and to give back. One for all of them saves a tenth of what a list
            # of twenty rows costs.
            return await greenlet_spawn(self._rows, query, parameters)

    def _rows(
        self, query: Executable, parameters: Mapping[str, Any] | None
    ) -> list[dict[str, Any]]:
        with self.engine.sync_engine.connect() as connection:
            if not self._autocommit_reads:
                return _dicts(connection.execute(query, parameters))
            # The engine's option does the same, as for sessions: it is looked up, checked, set and
            # taken back for each connection, an eighth of the time that a list takes.
            adapted: Any = connection.connection.dbapi_connection
            adapted.autocommit = True
            try:
                return _dicts(connection.execute(query, parameters))
            finally:
                adapted.autocommit = False

    @contextmanager
    def _place(self) -> Iterator[None]:
        """Translate what the pool raises; `_driver_error` does it for what comes from below."""
        try:
            # Before there is a session: who is refused costs as little as it can.
            self._pool.refuse_if_busy()
            yield
        except PoolBusyError as error:
            raise DatabaseBusy from error
        except PoolTimeoutError as error:
            raise DatabaseUnavailable from error

    @property
    def connections_in_use(self) -> int:
        """Count the connections that somebody holds now."""
        return self._pool.checkedout()

    def sample(self) -> None:
        """Set the gauges of the pool to what they are now."""
        self._pool.sample()

    @property
    def _pool(self) -> MeasuredPool:
        pool = self.engine.pool
        assert isinstance(pool, MeasuredPool)  # noqa: S101 - open_database makes it so
        return pool


@asynccontextmanager
async def open_database(settings: DatabaseSettings) -> AsyncIterator[Database]:
    """Create the engine; connections open on first use, so a slow database delays no start."""
    engine = _engine(settings)
    try:
        yield Database(engine, autocommit_reads=not settings.pgbouncer)
    finally:
        await _dispose(engine)


async def connect(settings: DatabaseSettings) -> "asyncpg.Connection[asyncpg.Record]":
    """Open a connection or raise `DatabaseUnavailable`, also when a file that it needs is gone."""
    try:
        return await asyncpg.connect(**settings.connect_arguments)
    except (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise DatabaseUnavailable from error


@asynccontextmanager
async def open_connection(
    settings: DatabaseSettings,
) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """Give a connection outside the pool; after an error it is dropped without a farewell.

    A farewell waits for the server, and the error may be that the server is out of reach.
    """
    connection = await connect(settings)
    try:
        yield connection
        await connection.close(timeout=DISPOSE_SECONDS)
    finally:
        connection.terminate()


async def check_once(settings: DatabaseSettings) -> None:
    """Raise `DatabaseUnavailable` with a sentence for the operator unless the database answers."""
    address = settings.address
    place = f"{address.host or 'the local socket'} port {address.port}"
    try:
        async with open_connection(settings) as connection:
            await connection.execute("SELECT 1")
    except (DatabaseUnavailable, OSError, asyncpg.PostgresError) as error:
        reason = error.__cause__ or error
        raise DatabaseUnavailable(
            f"The database at {place} does not answer: {type(reason).__name__}: {reason}"
        ) from error


def get_database(connection: HTTPConnection) -> Database:
    """Find the database of the running app, from an HTTP request or a WebSocket."""
    database: Database = connection.app.state.resources.database
    return database


async def get_session(connection: HTTPConnection) -> AsyncIterator[AsyncSession]:
    """One request, one transaction."""
    async with get_database(connection).transaction() as session:
        yield session


async def get_read_session(connection: HTTPConnection) -> AsyncIterator[AsyncSession]:
    """One request, reads alone, no transaction."""
    async with get_database(connection).reading() as session:
        yield session


# scope="function" commits before the response leaves: a client never reads "201 Created" for a row
# that a failing commit then loses.
SessionDep = Annotated[AsyncSession, Depends(get_session, scope="function")]
ReadSessionDep = Annotated[AsyncSession, Depends(get_read_session, scope="function")]


def _engine(settings: DatabaseSettings) -> AsyncEngine:
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
    trace_database(engine.dialect, settings.address)
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


def _dicts(found: Result[Any]) -> list[dict[str, Any]]:
    """Return rows as dicts, which pydantic reads in a third of the time that rows take."""
    columns = tuple(found.keys())
    return [dict(zip(columns, row, strict=True)) for row in found.all()]


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
