"""Connections outside the pool."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

import asyncpg

from slipway_kit.clock import now
from slipway_kit.db.errors import DatabaseUnavailable
from slipway_kit.db.settings import DatabaseSettings

DISPOSE_SECONDS = 1.0
# However little is left of the time for a connection.
_LEAST_SECONDS = 0.05
# When the time for a connection ends that the pool is about to hand out, by `clock.now`.
checkout_ends: ContextVar[float] = ContextVar("checkout ends", default=float("inf"))


def checkout_seconds() -> float:
    """Return what is left of it for a ping or a new connection, in seconds."""
    return max(checkout_ends.get() - now(), _LEAST_SECONDS)


async def connect(
    settings: DatabaseSettings, **changed: Any
) -> "asyncpg.Connection[asyncpg.Record]":
    """Open a connection or raise `DatabaseUnavailable`, also when a file it needs is missing."""
    try:
        arguments = settings.connect_arguments | changed
        arguments["timeout"] = min(arguments["timeout"], checkout_seconds())
        return await asyncpg.connect(**arguments)
    except (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise DatabaseUnavailable from error


@asynccontextmanager
async def open_connection(
    settings: DatabaseSettings,
) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """Yield a connection outside the pool; after an error it is terminated, not closed.

    A clean close waits for the server, which may be unreachable.
    """
    connection = await connect(settings)
    try:
        yield connection
        await connection.close(timeout=DISPOSE_SECONDS)
    finally:
        connection.terminate()


async def check_once(settings: DatabaseSettings) -> None:
    """Raise `DatabaseUnavailable` with a message for the operator unless the database answers."""
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
