"""Through a real pgbouncer that gives each transaction any of its two server connections."""

import asyncio
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from kit.tests.support import ports, programs
from kit.tests.support.paths import MIGRATIONS
from slipway_kit.db import migrations
from slipway_kit.db.engine import open_database
from slipway_kit.db.errors import DatabaseUnavailable
from slipway_kit.db.migrations import MigrationError, applied_versions
from slipway_kit.db.sessions import Database
from slipway_kit.db.settings import DatabaseSettings
from slipway_kit.dev.postgres_server import Account
from slipway_kit.dev.programs import end_with_us

pytestmark = pytest.mark.anyio

CONFIG = """
[databases]
* = host={folder} port=5432 user=postgres

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 2
ignore_startup_parameters = lock_timeout
"""


@pytest.fixture(scope="module")
def bouncer_port(postgres_url: str) -> Iterator[int]:
    program = programs.find("pgbouncer", package="pgbouncer")
    port = ports.free()
    folder = parse_qs(urlsplit(postgres_url).query)["host"][0]
    with tempfile.TemporaryDirectory() as home:
        config, log = Path(home) / "pgbouncer.ini", Path(home) / "log"
        config.write_text(CONFIG.format(folder=folder, port=port))
        Path(home).chmod(0o755)
        process = Account.current().start(program, config, log=log, preexec_fn=end_with_us())
        try:
            ports.wait_open(port)
            yield port
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(10)


@pytest.fixture
def bouncer_url(bouncer_port: int, notes_url: str) -> str:
    name = urlsplit(notes_url).path
    return f"postgresql://postgres@127.0.0.1:{bouncer_port}{name}?sslmode=disable"


async def run_many(database: Database) -> None:
    # As many at once as the pool has connections: more of them would be refused.
    turn = asyncio.Semaphore(10)

    async def once(number: int) -> None:
        async with turn:
            await use(number)

    async def use(number: int) -> None:
        async with database.transaction() as session:
            name = {"name": str(number)}
            await session.execute(text("INSERT INTO notes VALUES (:name)"), name)
        async with database.reading() as session:
            assert await session.scalar(text("SELECT text FROM notes WHERE text = :name"), name)
            rows = await session.execute(text("SELECT count(*) FROM notes"))
            assert rows.scalar_one() > 0
        found = await database.rows(text("SELECT text FROM notes WHERE text = :name"), name)
        assert found == [{"text": str(number)}]

    await asyncio.gather(*(once(number) for number in range(150)))


async def test_many_clients_share_few_server_connections(bouncer_url: str) -> None:
    settings = DatabaseSettings(url=SecretStr(bouncer_url), pgbouncer=True, pool_timeout_seconds=20)
    async with open_database(settings) as database:
        await run_many(database)
        assert database.connections_in_use == 0
        async with database.reading() as session:
            assert await session.scalar(text("SELECT count(*) FROM notes")) == 150
        async with database.transaction() as session:
            streamed = await session.stream_scalars(text("SELECT number FROM lines"))
            assert len([number async for number in streamed]) == 5000


async def test_readiness_asks_through_it(bouncer_url: str) -> None:
    settings = DatabaseSettings(url=SecretStr(bouncer_url), pgbouncer=True, pool_timeout_seconds=20)
    assert await applied_versions(settings) == frozenset()


async def test_without_the_switch_it_refuses_us(bouncer_url: str) -> None:
    with pytest.raises(DatabaseUnavailable) as refusal:
        await applied_versions(DatabaseSettings(url=SecretStr(bouncer_url)))
    assert "unsupported startup parameter" in str(refusal.value.__cause__)


def test_a_migration_that_is_not_told_of_pgbouncer_leaves_no_lock_there(bouncer_url: str) -> None:
    settings = DatabaseSettings(url=SecretStr(bouncer_url))
    with pytest.raises(MigrationError, match="set DATABASE_URL to PostgreSQL itself"):
        migrations.upgrade(settings, MIGRATIONS)
