import asyncio
import socket
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession
from structlog.testing import capture_logs

from kit.tests.support.paths import MIGRATIONS
from kit.tests.support.proxy import Proxy
from slipway_kit.clock import now
from slipway_kit.db.connection import check_once
from slipway_kit.db.engine import open_database
from slipway_kit.db.errors import DatabaseUnavailable
from slipway_kit.db.migrations import (
    NO_ANSWER,
    SchemaCheck,
    Versions,
    applied_versions,
    known_versions,
)
from slipway_kit.db.sessions import Database
from slipway_kit.db.settings import DatabaseSettings
from slipway_kit.http.probes import Check, Readiness
from slipway_kit.runtime import Runtime

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Both event loops: they raise different errors when a connection breaks."""
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture
def proxy(notes_url: str) -> Iterator[Proxy]:
    with Proxy(notes_url) as proxy:
        yield proxy


@pytest.fixture
def notes_settings(proxy: Proxy) -> DatabaseSettings:
    """The database behind the proxy, with time for a busy machine to connect."""
    return DatabaseSettings(url=SecretStr(proxy.url), pool_size=2, pool_timeout_seconds=30)


async def test_a_database_that_refuses_connections_is_a_problem(
    api: httpx2.AsyncClient, proxy: Proxy
) -> None:
    proxy.refuse()
    for answer in [await api.post("/notes/a"), await api.get("/notes/stream")]:
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert str(proxy.port) not in answer.text


@pytest.mark.usefixtures("idle_for_long")
async def test_a_connection_reset_while_it_is_idle_is_replaced_unseen(
    api: httpx2.AsyncClient, proxy: Proxy, database: Database
) -> None:
    assert (await api.post("/notes/a")).status_code == 201
    proxy.reset()
    assert (await api.post("/notes/b")).status_code == 201
    assert database.connections_in_use == 0


@pytest.mark.usefixtures("idle_for_long")
async def test_a_connection_that_does_not_answer_its_ping_is_a_problem_and_no_bug(
    proxy: Proxy, notes_settings: DatabaseSettings
) -> None:
    async def ask(database: Database) -> object:
        return await database.rows(text("SELECT 1 AS one"))

    async with open_database(notes_settings) as database:
        assert await ask(database) == [{"one": 1}]
        async with database.engine.connect() as connection:
            driver = (await connection.get_raw_connection()).driver_connection
        with silent(proxy, driver), pytest.raises(DatabaseUnavailable):
            await ask(database)
        assert await ask(database) == [{"one": 1}]
        assert database.connections_in_use == 0


async def ask_before_and_after_silence(
    opened: AbstractAsyncContextManager[AsyncSession], proxy: Proxy
) -> None:
    async with opened as session:
        await session.execute(text("SELECT 1"))
        raw = await (await session.connection()).get_raw_connection()
        with silent(proxy, raw.driver_connection):
            await session.execute(text("SELECT 1"))


@contextmanager
def silent(proxy: Proxy, connection: Any) -> Iterator[None]:
    """Let nothing through; who waits for the server on this connection, or makes one, soon ends.

    Before, both have all the time that they need.
    """
    proxy.swallow = True
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("slipway_kit.db.settings.CONNECT_SHARE", 0.002)
        patch.setattr(connection, "_config", connection._config._replace(command_timeout=0.05))
        try:
            yield
        finally:
            proxy.swallow = False


async def test_a_connection_reset_in_the_middle_of_a_query_is_a_problem(
    api: httpx2.AsyncClient, proxy: Proxy, database: Database
) -> None:
    request = asyncio.create_task(api.get("/notes/sleep/30"))
    await until_asleep(database)
    proxy.reset()
    assert (await request).status_code == 503
    assert (await api.post("/notes/a")).status_code == 201
    assert database.connections_in_use == 0


async def until_asleep(database: Database) -> None:
    count = text("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep($1%'")
    asleep = 0
    while not asleep:
        async with database.reading() as session:
            asleep = await session.scalar(count) or 0


@pytest.mark.parametrize("budget", [*range(0, 500, 70), 600, 1000])
async def test_a_connection_lost_at_any_moment_is_a_problem_and_never_a_bug(
    budget: int, api: httpx2.AsyncClient, proxy: Proxy, database: Database
) -> None:
    proxy.budget = budget
    assert (await api.post("/notes/a")).status_code in {503, 201}
    proxy.mend()
    assert (await api.post("/notes/b")).status_code == 201
    assert database.connections_in_use == 0


async def test_a_network_that_swallows_everything_is_a_problem_in_time(
    proxy: Proxy, notes_settings: DatabaseSettings
) -> None:
    async with open_database(notes_settings) as database:
        for way in (database.transaction, database.reading):
            with pytest.raises(DatabaseUnavailable):
                await ask_before_and_after_silence(way(), proxy)
        assert database.connections_in_use == 0
        async with database.transaction() as session:
            assert await session.scalar(text("SELECT 1")) == 1


@pytest.mark.usefixtures("idle_for_long")
async def test_waiting_pinging_and_connecting_have_one_time_together(
    proxy: Proxy, notes_settings: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = notes_settings.model_copy(update={"pool_size": 1})
    async with open_database(patient) as database:
        await database.rows(text("SELECT 1"))
        monkeypatch.setattr(database.engine.pool, "_timeout", 1.0)
        proxy.swallow = True
        began = now()
        with pytest.raises(DatabaseUnavailable):
            await database.rows(text("SELECT 1"))
        # A ping alone may take the 6 s of a statement and its network.
        assert now() - began < 4


async def test_closing_does_not_wait_for_a_database_out_of_reach(
    proxy: Proxy, notes_settings: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slipway_kit.db.connection.DISPOSE_SECONDS", 0.05)
    with capture_logs() as events:
        async with open_database(notes_settings) as database:
            async with database.reading() as session:
                await session.execute(text("SELECT 1"))
            proxy.swallow = True
    assert [event["event"] for event in events] == ["database connections left open"]


@pytest.mark.parametrize("budget", [0, 90, 450, 500, 540, 580, 700])
async def test_readiness_answers_in_time_wherever_the_network_falls_silent(
    budget: int, proxy: Proxy, notes_settings: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slipway_kit.http.probes.DEADLINE_SECONDS", 0.05)
    proxy.budget, proxy.falls_silent = budget, True
    needed = Versions(frozenset({"1"}), frozenset({"1"}))
    check = Check(SchemaCheck(notes_settings, needed), NO_ANSWER)
    readiness = Readiness([check], Runtime())
    async with asyncio.timeout(30):
        obstacle = await readiness.obstacle()
    assert obstacle in {
        "The database does not answer.",
        "The database has no revision; this code needs 1.",
    }


async def test_a_server_that_accepts_and_says_nothing_is_a_problem_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://127.0.0.1:{silent.getsockname()[1]}/shop?sslmode=disable"
        settings = DatabaseSettings(url=SecretStr(url), pool_timeout_seconds=0.05)
        with pytest.raises(DatabaseUnavailable, match="does not answer: TimeoutError"):
            await check_once(settings)


async def test_the_check_before_the_start_is_one_sentence_without_the_password() -> None:
    settings = DatabaseSettings(url=SecretStr("postgresql://app:hunter2@127.0.0.1:1/shop"))
    with pytest.raises(
        DatabaseUnavailable, match=r"^The database at 127\.0\.0\.1 port 1 does not answer: Conn"
    ) as refusal:
        await check_once(settings)
    assert "hunter2" not in str(refusal.value)


async def test_the_check_before_the_start_passes_and_leaves_no_connection(
    notes_url: str, database: Database
) -> None:
    url = SecretStr(f"{notes_url}&application_name=check")
    await check_once(DatabaseSettings(url=url, pool_timeout_seconds=30))
    left = text("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'check'")
    async with database.reading() as session:
        # The server notices the end a moment later.
        while await session.scalar(left):  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.01)


async def test_a_wrong_name_is_named_to_the_operator(postgres_url: str) -> None:
    wrong = postgres_url.replace("/postgres?", "/nowhere?")
    with pytest.raises(DatabaseUnavailable, match='"nowhere" does not exist'):
        await check_once(DatabaseSettings(url=SecretStr(wrong), pool_timeout_seconds=30))


async def test_a_password_file_that_vanished_is_named_to_the_operator(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("x")
    settings = DatabaseSettings(password_file=file, port=1)
    file.unlink()
    with pytest.raises(DatabaseUnavailable, match=f"{file} cannot be read"):
        await check_once(settings)


async def test_an_older_schema_is_not_ready_until_it_is_migrated(
    service: FastAPI, api: httpx2.AsyncClient, notes_settings: DatabaseSettings
) -> None:
    needed = known_versions(MIGRATIONS).heads
    assert await applied_versions(notes_settings) == frozenset()
    answer = await api.get("/readyz")
    assert answer.status_code == (503 if needed else 200)
    if needed:
        assert answer.json()["detail"].startswith("The database has no revision; this code needs")
        assert answer.headers["retry-after"] == "1"


@pytest.fixture
def unsettled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker does not look at the database before it is asked."""

    async def settle(_readiness: Readiness) -> None: ...

    monkeypatch.setattr(Readiness, "settle", settle)


@pytest.mark.usefixtures("unsettled")
async def test_liveness_and_start_ask_nothing_of_the_database(
    api: httpx2.AsyncClient, proxy: Proxy
) -> None:
    proxy.refuse()
    assert (await api.get("/livez")).status_code == 200
    assert (await api.get("/startupz")).status_code == 200
    assert (await api.get("/health")).json() == {"status": "healthy"}
    readiness = await api.get("/readyz")
    assert (readiness.status_code, readiness.json()["detail"]) == (
        503,
        "The database does not answer.",
    )


async def test_readiness_holds_no_connection_of_the_pool(
    api: httpx2.AsyncClient, database: Database
) -> None:
    async with database.engine.connect(), database.engine.connect():
        answer = await api.get("/readyz")
    assert answer.json().get("detail") != "The database does not answer."
