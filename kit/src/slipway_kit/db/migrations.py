"""Schema migrations: the revisions this code knows, the one the database has, and upgrades."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import asyncpg
import structlog
from alembic import command, context
from alembic.config import Config
from alembic.runtime.migration import MigrationContext, MigrationInfo
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, MetaData, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from slipway_kit.clock import now
from slipway_kit.config.group import read
from slipway_kit.db.connection import connect, open_connection
from slipway_kit.db.errors import DatabaseUnavailable
from slipway_kit.db.settings import DatabaseSettings
from slipway_kit.db.translation import hide_values

# An arbitrary number that no other user of the database uses for an advisory lock.
LOCK_KEY = 0x51_70_3A_9E
LOCK_SECONDS = 300.0
LOCK_POLL_SECONDS = 0.2
# Every later statement on a table queues behind one that waits for a lock on it.
TABLE_LOCK_SECONDS = 3.0

# What a CREATE INDEX CONCURRENTLY that failed or was ended leaves behind: no query uses it.
INVALID_INDEXES = """
SELECT i.indexrelid::regclass::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE NOT i.indisvalid AND c.relkind = 'i' AND c.relnamespace = current_schema()::regnamespace
AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = i.indexrelid)
"""
_POOLED = (
    "Migrations hold a lock that pgbouncer's transactions lose: set DATABASE_URL to PostgreSQL"
    " itself and DATABASE_PGBOUNCER=false for this command."
)
NO_ANSWER = "The database does not answer."

log = structlog.get_logger()


class MigrationError(Exception):
    """The migration failed; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Versions:
    """The head revisions of this code, and all revisions it knows."""

    heads: frozenset[str]
    known: frozenset[str]

    def obstacle(self, found: frozenset[str]) -> str | None:
        """Return why a database at `found` does not fit this code, or `None` when it does.

        An unknown revision is a newer one: during a rollout old pods keep serving.
        """
        if not self.heads or found - self.known or found == self.heads:
            return None
        needed = ", ".join(sorted(self.heads))
        if not found:
            return f"The database has no revision; this code needs {needed}."
        return f"The database is at revision {', '.join(sorted(found))}, older than {needed}."


@cache
def known_versions(folder: Path) -> Versions:
    """Read the revisions in `folder`; a missing folder has none."""
    if not folder.exists():
        return Versions(frozenset(), frozenset())
    scripts = ScriptDirectory(str(folder))
    known = frozenset(script.revision for script in scripts.walk_revisions())
    return Versions(frozenset(scripts.get_heads()), known)


async def applied_versions(settings: DatabaseSettings) -> frozenset[str]:
    """Return the revisions of the database, over its own connection; none when it is empty."""
    async with open_connection(settings) as connection:
        # In a transaction, because pgbouncer could run each query on another server. Not in a
        # block: its rollback would wait for an unreachable server.
        await connection.execute("BEGIN READ ONLY")
        rows = []
        if await connection.fetchval("SELECT to_regclass('alembic_version')"):
            rows = await connection.fetch("SELECT version_num FROM alembic_version")
        await connection.execute("COMMIT")
    return frozenset(row["version_num"] for row in rows)


class SchemaCheck:
    """Asks whether the schema fits this code, on a connection outside the pool.

    Once it did, an answer of any kind is enough: what is migrated later is newer.
    """

    def __init__(self, settings: DatabaseSettings, versions: Versions) -> None:
        self._settings, self._versions, self._fits = settings, versions, False

    async def __call__(self, _: object) -> str | None:
        """Return why the schema does not fit, or `None`; raise if the database does not answer."""
        found = await applied_versions(self._settings)
        obstacle = None if self._fits else self._versions.obstacle(found)
        self._fits = obstacle is None
        return obstacle


def current(settings: DatabaseSettings) -> str:
    """Return the revision of the database, or an empty string."""
    return ", ".join(sorted(asyncio.run(applied_versions(settings))))


def upgrade(settings: DatabaseSettings, folder: Path, revision: str = "head") -> None:
    """Upgrade to `revision`; of several migrators at once one runs, the others wait.

    `folder` holds the revisions and alembic's `env.py`.
    """
    _run(settings, folder, command.upgrade, revision)


def downgrade(settings: DatabaseSettings, folder: Path, revision: str) -> None:
    """Downgrade to `revision`; `base` is the empty schema."""
    _run(settings, folder, command.downgrade, revision)


def run_environment(metadata: MetaData) -> None:
    """Run alembic's command under the lock; `migrations/env.py` calls this.

    Under alembic's own command line the settings are read from the environment.
    """
    settings = context.config.attributes.get("settings") or read(DatabaseSettings)
    asyncio.run(_run_environment(settings, metadata))


def config_for(settings: DatabaseSettings, folder: Path) -> Config:
    """Return alembic's configuration without its file."""
    config = Config(attributes={"settings": settings})
    # Alembic interpolates % in its options.
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    return config


def _run(
    settings: DatabaseSettings, folder: Path, action: Callable[[Config, str], None], revision: str
) -> None:
    if settings.pgbouncer:
        raise MigrationError(_POOLED)
    started = now()
    log.info("migration started")
    try:
        action(config_for(settings, folder), revision)
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


async def _run_environment(settings: DatabaseSettings, metadata: MetaData) -> None:
    engine = create_async_engine(
        "postgresql+asyncpg://",
        poolclass=NullPool,
        connect_args={"async_creator_fn": lambda **_: _locked_connection(settings)},
    )
    event.listen(engine.sync_engine, "handle_error", hide_values)
    async with engine.connect() as connection:
        await _drop_invalid_indexes(connection)
        await connection.run_sync(_migrate, metadata)


async def _drop_invalid_indexes(connection: AsyncConnection) -> None:
    """Let the revision that failed to build an index try again, also with IF NOT EXISTS."""
    autocommit = await connection.execution_options(isolation_level="AUTOCOMMIT")
    for (name,) in (await autocommit.exec_driver_sql(INVALID_INDEXES)).all():
        log.warning("invalid index is dropped", index=name)
        await autocommit.exec_driver_sql(f"DROP INDEX CONCURRENTLY {name}")
    await autocommit.commit()
    await connection.execution_options(isolation_level="READ COMMITTED")


async def _locked_connection(
    settings: DatabaseSettings,
) -> "asyncpg.Connection[asyncpg.Record]":
    """Return a connection with an advisory lock, which ends with it, also when it is killed.

    The lock is polled: a waiting statement would hold a snapshot, and CREATE INDEX CONCURRENTLY of
    the other migrator would wait for that for ever.
    """
    # A migration may take longer than any request: only waiting for locks has a deadline.
    connection = await connect(
        settings,
        command_timeout=None,
        server_settings={
            "application_name": "migrate",
            "lock_timeout": f"{TABLE_LOCK_SECONDS * 1000:.0f}",
        },
    )
    if await connection.fetchval("SELECT pg_backend_pid()") != connection.get_server_pid():
        connection.terminate()
        raise MigrationError(_POOLED)
    give_up = now() + LOCK_SECONDS
    while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK_KEY):
        if now() > give_up:
            connection.terminate()
            raise MigrationError(
                f"Another migration has held the lock for {LOCK_SECONDS:g} s; end it first."
            )
        await asyncio.sleep(LOCK_POLL_SECONDS)
    return connection


def _migrate(connection: Connection, metadata: MetaData) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        # A failed revision keeps those before it; CREATE INDEX CONCURRENTLY needs to end its own.
        transaction_per_migration=True,
        on_version_apply=lambda *, ctx, step, **_: _end_step(ctx, step),
    )
    with context.begin_transaction():
        context.run_migrations()


def _end_step(ctx: MigrationContext, step: MigrationInfo) -> None:
    """Log a revision, and end with it what it set for itself, such as its lock_timeout."""
    if ctx.connection is not None:
        ctx.connection.exec_driver_sql("RESET ALL")
    direction = "upgrade" if step.is_upgrade else "downgrade"
    log.info("migration applied", direction=direction, revision=", ".join(step.up_revision_ids))
