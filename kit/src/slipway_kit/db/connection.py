"""Connections outside the pool."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from slipway_kit.db.errors import DatabaseUnavailable
from slipway_kit.db.settings import DatabaseSettings

DISPOSE_SECONDS = 1.0


async def connect(settings: DatabaseSettings) -> "asyncpg.Connection[asyncpg.Record]":
    """Open a connection or raise `DatabaseUnavailable`, also when a file it needs is missing."""
    try:
        return await asyncpg.connect(**settings.connect_arguments)
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
