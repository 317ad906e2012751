"""The engine, its pool, one transaction per request, and what a database out of reach means."""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Annotated, Any

import structlog
from fastapi import Depends
from sqlalchemy import Executable, Result
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
)
from sqlalchemy.util import greenlet_spawn
from starlette.requests import HTTPConnection

from slipway_kit.db.errors import DatabaseBusy, DatabaseUnavailable
from slipway_kit.db.pool import MeasuredPool, PoolBusyError
from slipway_kit.runtime import runtime_of

log = structlog.get_logger()


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


def get_database(connection: HTTPConnection) -> Database:
    """Find the database of the running app, from an HTTP request or a WebSocket."""
    return runtime_of(connection).get(Database)


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


def _dicts(found: Result[Any]) -> list[dict[str, Any]]:
    """Return rows as dicts, which pydantic reads in a third of the time that rows take."""
    columns = tuple(found.keys())
    return [dict(zip(columns, row, strict=True)) for row in found.all()]
