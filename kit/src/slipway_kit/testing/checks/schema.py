"""The revisions of the schema: one head, a way up and down, and what the models say."""

import asyncio
from pathlib import Path
from typing import Any

import asyncpg
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from pydantic import SecretStr
from sqlalchemy import CheckConstraint, Connection
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from slipway_kit.db import migrations as versions
from slipway_kit.db.model import Model
from slipway_kit.db.settings import DatabaseSettings


def migrations(empty_url: str, folder: Path) -> list[str]:
    """Migrate an empty database up, down and up again; return what went wrong.

    `folder` holds the revisions and alembic's `env.py`.
    """
    heads = versions.known_versions(folder).heads
    if len(heads) > 1:
        return [f"there are several heads, {', '.join(sorted(heads))}: merge them with alembic"]
    settings = DatabaseSettings(url=SecretStr(empty_url))
    versions.upgrade(settings, folder)
    versions.downgrade(settings, folder, "base")
    if left := asyncio.run(_tables(settings)):
        return [f"downgrade leaves the table {name}" for name in left]
    versions.upgrade(settings, folder)
    return differences(settings)


def differences(settings: DatabaseSettings) -> list[str]:
    """Return where the migrated schema is not what the models say, as alembic puts it."""
    return [f"models and migrations differ: {each}" for each in asyncio.run(_compared(settings))]


async def _tables(settings: DatabaseSettings) -> list[str]:
    connection = await asyncpg.connect(**settings.connect_arguments)
    rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    await connection.close()
    return sorted({row["tablename"] for row in rows} - {"alembic_version"})


async def _compared(settings: DatabaseSettings) -> list[Any]:
    engine = create_async_engine(
        "postgresql+asyncpg://",
        poolclass=NullPool,
        connect_args={
            "async_creator_fn": lambda **_: asyncpg.connect(**settings.connect_arguments)
        },
    )
    async with engine.connect() as connection:
        found = await connection.run_sync(_compare)
    await engine.dispose()
    return found


def _compare(connection: Connection) -> list[Any]:
    # env.py has imported the models of every feature that is served.
    context = MigrationContext.configure(connection, opts={"compare_server_default": True})
    found: list[Any] = compare_metadata(context, Model.metadata)
    return found + _check_constraints(connection)


def _check_constraints(connection: Connection) -> list[Any]:
    """Compare the names of check constraints, which alembic leaves out."""
    rows = connection.exec_driver_sql(
        "SELECT conrelid::regclass::text, conname FROM pg_constraint WHERE contype = 'c'"
        " AND connamespace = 'public'::regnamespace"
    )
    migrated = {(table, name) for table, name in rows}
    modelled = {
        (table.name, str(constraint.name))
        for table in Model.metadata.tables.values()
        for constraint in table.constraints
        if isinstance(constraint, CheckConstraint)
    }
    return sorted(migrated ^ modelled)
