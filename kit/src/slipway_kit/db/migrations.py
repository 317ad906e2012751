"""Schema versions: which ones this code knows, which one the database has, and the way between."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import asyncpg
import structlog
from alembic import command, context
from alembic.config import Config
from alembic.runtime.migration import MigrationInfo
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, MetaData
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from slipway_kit.clock import now
from slipway_kit.config.group import read
from slipway_kit.db.connection import open_connection
from slipway_kit.db.errors import DatabaseUnavailable
from slipway_kit.db.settings import DatabaseSettings

# Any number that no other user of the same database takes for an advisory lock.
LOCK_KEY = 0x51_70_3A_9E
LOCK_SECONDS = 300.0
LOCK_POLL_SECONDS = 0.2
# A statement that waits for a table makes every later one wait behind it.
TABLE_LOCK_SECONDS = 3.0

log = structlog.get_logger()


class MigrationError(Exception):
    """The schema could not be brought to the version asked for; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Versions:
    """The newest revisions that this code knows, and all of them."""

    heads: frozenset[str]
    known: frozenset[str]

    def obstacle(self, found: frozenset[str]) -> str | None:
        """Return why a database at `found` does not fit this code, or `None` when it does.

        An unknown revision is a newer one: in the middle of a rollout old pods go on serving.
        """
        if not self.heads or found - self.known or found == self.heads:
            return None
        needed = ", ".join(sorted(self.heads))
        if not found:
            return f"The database has no revision; this code needs {needed}."
        return f"The database is at revision {', '.join(sorted(found))}, older than {needed}."


@cache
def known_versions(folder: Path) -> Versions:
    """Read the revisions in `folder`; a service without a table has none."""
    if not folder.exists():
        return Versions(frozenset(), frozenset())
    scripts = ScriptDirectory(str(folder))
    known = frozenset(script.revision for script in scripts.walk_revisions())
    return Versions(frozenset(scripts.get_heads()), known)


async def applied_versions(settings: DatabaseSettings) -> frozenset[str]:
    """Return the revisions of the database, on a connection of its own; none when it is empty."""
    async with open_connection(settings) as connection:
        # In a transaction: pgbouncer would give each half of a query another server. It is begun
        # by hand: a block would roll back on its way out, and wait for a server out of reach.
        await connection.execute("BEGIN READ ONLY")
        rows = []
        if await connection.fetchval("SELECT to_regclass('alembic_version')"):
            rows = await connection.fetch("SELECT version_num FROM alembic_version")
        await connection.execute("COMMIT")
    return frozenset(row["version_num"] for row in rows)


def current(settings: DatabaseSettings) -> str:
    """Name the revision of the database; empty when there is none."""
    return ", ".join(sorted(asyncio.run(applied_versions(settings))))


def upgrade(settings: DatabaseSettings, folder: Path, revision: str = "head") -> None:
    """Apply what is missing up to `revision`; of several at once one applies, the others wait.

    `folder` holds the revisions and alembic's `env.py`.
    """
    _run(settings, folder, partial(command.upgrade, revision=revision))


def downgrade(settings: DatabaseSettings, folder: Path, revision: str) -> None:
    """Go back to `revision`; `base` is the empty schema."""
    _run(settings, folder, partial(command.downgrade, revision=revision))


def run_environment(metadata: MetaData) -> None:
    """Do what alembic was told to, under the lock; `migrations/env.py` calls this.

    Alembic's own command line brings no settings; then they are read from the environment.
    """
    settings = context.config.attributes.get("settings") or read(DatabaseSettings)
    asyncio.run(_run_locked(settings, metadata))


def config_for(settings: DatabaseSettings, folder: Path) -> Config:
    """Return alembic's configuration without its file."""
    config = Config(attributes={"settings": settings})
    # The file format of alembic gives % a meaning.
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    return config


def _run(settings: DatabaseSettings, folder: Path, action: Callable[[Config], None]) -> None:
    if settings.pgbouncer:
        raise MigrationError(
            "Migrations hold a lock that pgbouncer's transactions lose: set DATABASE_URL to"
            " PostgreSQL itself and DATABASE_PGBOUNCER=false for this command."
        )
    started = now()
    log.info("migration started")
    try:
        action(config_for(settings, folder))
    except CommandError as error:
        raise MigrationError(f"{error}.") from error
    except DatabaseUnavailable as error:
        raise MigrationError(f"The database does not answer: {error.__cause__}.") from error
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) != asyncpg.LockNotAvailableError.sqlstate:
            raise
        raise MigrationError(
            f"A table was in use for {TABLE_LOCK_SECONDS:g} s, and requests would queue behind"
            f" the migration: try again when long transactions have ended ({error.statement})."
        ) from error
    log.info("migration finished", ms=round((now() - started) * 1000))


async def _run_locked(settings: DatabaseSettings, metadata: MetaData) -> None:
    async with _lock(settings):
        arguments = {**settings.connect_arguments, "command_timeout": None}
        # A migration may take longer than any request: only the deadlines of locks are ours.
        arguments["server_settings"] = {
            "application_name": "migrate",
            "lock_timeout": f"{TABLE_LOCK_SECONDS * 1000:.0f}",
        }
        engine = create_async_engine(
            "postgresql+asyncpg://",
            poolclass=NullPool,
            connect_args={"async_creator_fn": lambda **_: asyncpg.connect(**arguments)},
        )
        async with engine.connect() as connection:
            await connection.run_sync(_migrate, metadata)
        await engine.dispose()


def _migrate(connection: Connection, metadata: MetaData) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        # A failing revision keeps those before it; CREATE INDEX CONCURRENTLY can leave its own.
        transaction_per_migration=True,
        on_version_apply=lambda *, step, **_: _log_step(step),
    )
    with context.begin_transaction():
        context.run_migrations()


def _log_step(step: MigrationInfo) -> None:
    direction = "upgrade" if step.is_upgrade else "downgrade"
    revision = ", ".join(step.up_revision_ids) if step.is_upgrade else step.up_revision_id
    log.info("migration applied", direction=direction, revision=revision)


@asynccontextmanager
async def _lock(settings: DatabaseSettings) -> AsyncIterator[None]:
    """Hold a session lock on a connection of its own; it ends with the connection, also by kill.

    It is tried again and again: a statement that waits for the lock would hold a snapshot, and
    CREATE INDEX CONCURRENTLY would wait for that one for ever.
    """
    async with open_connection(settings) as connection:
        give_up = now() + LOCK_SECONDS
        while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK_KEY):
            if now() > give_up:
                raise MigrationError(
                    f"Another migration has held the lock for {LOCK_SECONDS:g} s; end it first."
                )
            await asyncio.sleep(LOCK_POLL_SECONDS)
        yield
