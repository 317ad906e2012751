import asyncio
import shutil
from pathlib import Path

import asyncpg
import pytest
from alembic import command
from alembic.script import ScriptDirectory
from pydantic import SecretStr
from structlog.testing import capture_logs

from kit.tests.support import revisions
from kit.tests.support.paths import MIGRATIONS
from slipway_kit.db import migrations
from slipway_kit.db.migrations import (
    MigrationError,
    Versions,
    applied_versions,
    known_versions,
)
from slipway_kit.db.settings import DatabaseSettings
from slipway_kit.testing import checks
from slipway_kit.testing.checks.schema import differences


@pytest.fixture
def settings(empty_url: str) -> DatabaseSettings:
    return DatabaseSettings(url=SecretStr(empty_url), pool_timeout_seconds=30)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of migrations with two revisions."""
    return revisions.write(tmp_path / "100% migrations")


def tables(settings: DatabaseSettings) -> set[str]:
    async def fetch() -> set[str]:
        connection = await asyncpg.connect(**settings.connect_arguments)
        rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        await connection.close()
        return {row["tablename"] for row in rows}

    return asyncio.run(fetch()) - {"alembic_version"}


def test_upgrade_and_downgrade_move_between_revisions(
    folder: Path, settings: DatabaseSettings
) -> None:
    assert migrations.current(settings) == ""
    migrations.upgrade(settings, folder, "a1")
    assert (migrations.current(settings), tables(settings)) == ("a1", {"ta1"})
    migrations.upgrade(settings, folder)
    assert (migrations.current(settings), tables(settings)) == ("a2", {"ta1", "ta2"})
    migrations.downgrade(settings, folder, "base")
    assert (migrations.current(settings), tables(settings)) == ("", set())


def test_a_failing_revision_keeps_those_before_it(folder: Path, settings: DatabaseSettings) -> None:
    revisions.add(
        folder, "a3", "a2", 'op.execute("CREATE TABLE ta3 ()")\n    op.execute("SELECT 1 / 0")'
    )
    with pytest.raises(Exception, match="DivisionByZeroError 22012"):
        migrations.upgrade(settings, folder)
    assert (migrations.current(settings), tables(settings)) == ("a2", {"ta1", "ta2"})


def test_an_unknown_revision_is_one_sentence(folder: Path, settings: DatabaseSettings) -> None:
    with pytest.raises(MigrationError, match=r"Can't locate revision identified by 'zz'\.$"):
        migrations.upgrade(settings, folder, "zz")


def test_a_database_out_of_reach_is_one_sentence() -> None:
    settings = DatabaseSettings(url=SecretStr("postgresql://app:hunter2@127.0.0.1:1/shop"))
    with pytest.raises(MigrationError, match=r"^The database does not answer: ") as refusal:
        migrations.upgrade(settings, MIGRATIONS)
    assert "hunter2" not in str(refusal.value)


def test_migrations_through_pgbouncer_are_refused(settings: DatabaseSettings) -> None:
    through = settings.model_copy(update={"pgbouncer": True})
    with pytest.raises(MigrationError, match="DATABASE_PGBOUNCER=false"):
        migrations.upgrade(through, MIGRATIONS)


def test_a_lock_that_never_comes_free_is_given_up(
    folder: Path, settings: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "LOCK_SECONDS", 0.05)
    monkeypatch.setattr(migrations, "LOCK_POLL_SECONDS", 0.01)

    async def hold() -> None:
        connection = await asyncpg.connect(**settings.connect_arguments)
        await connection.execute(f"SELECT pg_advisory_lock({migrations.LOCK_KEY})")
        with pytest.raises(MigrationError, match=r"held the lock for 0.05 s"):
            await asyncio.to_thread(migrations.upgrade, settings, folder)
        await connection.close()

    asyncio.run(hold())
    assert tables(settings) == set()


def test_a_table_in_use_is_given_up_before_requests_queue_behind_it(
    folder: Path, settings: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "TABLE_LOCK_SECONDS", 0.05)
    migrations.upgrade(settings, folder)
    revisions.add(folder, "a3", "a2", 'op.execute("ALTER TABLE ta1 ADD COLUMN note text")')

    async def meanwhile() -> None:
        connection = await asyncpg.connect(**settings.connect_arguments)
        async with connection.transaction():
            await connection.execute("SELECT * FROM ta1")
            with pytest.raises(MigrationError, match=r"in use for 0.05 s.*ALTER TABLE ta1"):
                await asyncio.to_thread(migrations.upgrade, settings, folder)
        await connection.close()

    asyncio.run(meanwhile())
    migrations.upgrade(settings, folder)
    assert migrations.current(settings) == "a3"


def test_what_a_revision_sets_for_itself_ends_with_it(
    folder: Path, settings: DatabaseSettings
) -> None:
    own = 'op.execute("SET lock_timeout = 0")\n    op.execute("SET enable_seqscan = off")'
    revisions.add(folder, "a3", "a2", own)
    shown = "current_setting('lock_timeout') AS lock, current_setting('enable_seqscan') AS scan"
    revisions.add(folder, "a4", "a3", f'op.execute("CREATE TABLE ta4 AS SELECT {shown}")')
    migrations.upgrade(settings, folder)

    async def look() -> tuple[str, str]:
        connection = await asyncpg.connect(**settings.connect_arguments)
        row = await connection.fetchrow("SELECT * FROM ta4")
        await connection.close()
        return row["lock"], row["scan"]

    assert asyncio.run(look()) == (f"{migrations.TABLE_LOCK_SECONDS:g}s", "on")


@pytest.mark.parametrize("exists", ["", "IF NOT EXISTS "])
def test_an_index_that_could_not_be_built_is_built_by_the_next_attempt(
    exists: str, folder: Path, settings: DatabaseSettings
) -> None:
    create = f"CREATE UNIQUE INDEX CONCURRENTLY {exists}ia3 ON ta1 (n)"
    block = f"with op.get_context().autocommit_block():\n        op.execute('{create}')"
    revisions.add(folder, "a3", "a2", block)
    migrations.upgrade(settings, folder, "a2")

    def run(statement: str) -> list[asyncpg.Record]:
        async def execute() -> list[asyncpg.Record]:
            connection = await asyncpg.connect(**settings.connect_arguments)
            found: list[asyncpg.Record] = await connection.fetch(statement)
            await connection.close()
            return found

        return asyncio.run(execute())

    run("INSERT INTO ta1 VALUES (1)")
    with pytest.raises(Exception, match="UniqueViolationError 23505"):
        migrations.upgrade(settings, folder)
    valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'ia3'::regclass"
    assert [row["indisvalid"] for row in run(valid)] == [False]
    run("DELETE FROM ta1 WHERE ctid = (SELECT max(ctid) FROM ta1 WHERE n = 1)")
    with capture_logs() as logs:
        migrations.upgrade(settings, folder)
    assert [row["indisvalid"] for row in run(valid)] == [True]
    named = [line["index"] for line in logs if line["event"] == "invalid index is dropped"]
    assert named == ["ia3"]


def test_the_known_revisions_are_alembics(folder: Path) -> None:
    assert known_versions(folder) == Versions(frozenset({"a2"}), frozenset({"a1", "a2"}))


def test_a_service_without_migrations_knows_none_and_migrates(
    tmp_path: Path, settings: DatabaseSettings
) -> None:
    assert known_versions(tmp_path / "nowhere") == Versions(frozenset(), frozenset())
    (tmp_path / "versions").mkdir()
    shutil.copy(MIGRATIONS / "env.py", tmp_path)
    migrations.upgrade(settings, tmp_path)
    assert known_versions(tmp_path).obstacle(asyncio.run(applied_versions(settings))) is None


def test_the_service_has_one_head_at_most() -> None:
    assert len(known_versions(MIGRATIONS).heads) <= 1


def test_every_revision_of_the_service_goes_up_and_down_again(
    settings: DatabaseSettings, empty_url: str
) -> None:
    assert checks.migrations(empty_url, MIGRATIONS) == []
    assert asyncio.run(applied_versions(settings)) == known_versions(MIGRATIONS).heads


def test_the_migrated_schema_is_what_the_models_say(settings: DatabaseSettings) -> None:
    # env.py imports the models of every feature that is served.
    migrations.upgrade(settings, MIGRATIONS)
    assert differences(settings) == []


def test_a_schema_that_is_not_what_the_models_say_is_found(folder: Path, empty_url: str) -> None:
    found = checks.migrations(empty_url, folder)
    assert [fault for fault in found if "remove_table" in fault and "'ta1'" in fault]


def test_two_heads_are_found(folder: Path, empty_url: str) -> None:
    revisions.add(folder, "b2", "a1", 'op.execute("CREATE TABLE tb2 ()")')
    assert checks.migrations(empty_url, folder) == [
        "there are several heads, a2, b2: merge them with alembic"
    ]


def test_a_downgrade_that_leaves_a_table_is_found(folder: Path, empty_url: str) -> None:
    two = 'op.execute("CREATE TABLE ta3 ()")\n    op.execute("CREATE TABLE left_over ()")'
    revisions.add(folder, "a3", "a2", two)
    assert checks.migrations(empty_url, folder) == ["downgrade leaves the table left_over"]


def test_a_new_revision_can_be_written_from_the_models(
    tmp_path: Path, settings: DatabaseSettings
) -> None:
    folder = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    migrations.upgrade(settings, folder)
    config = migrations.config_for(settings, folder)
    command.revision(config, message="Add nothing", autogenerate=True, rev_id="new")
    script = ScriptDirectory(str(folder)).get_revision("new")
    assert script is not None
    compile(Path(script.path).read_text(), script.path, "exec")
