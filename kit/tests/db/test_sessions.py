import asyncio
from contextlib import suppress
from functools import partial
from typing import Any

import asyncpg
import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import text
from starlette.requests import ClientDisconnect
from starlette.types import Message
from structlog.testing import capture_logs

from kit.tests.support import notes
from kit.tests.support.turns import turns, until
from slipway_kit.db.engine import open_database
from slipway_kit.db.errors import DatabaseUnavailable, StatementTimeout
from slipway_kit.db.sessions import Database
from slipway_kit.db.settings import DatabaseSettings
from slipway_kit.testing import asgi

pytestmark = pytest.mark.anyio

Look = Any  # an asyncpg connection
IDLE_IN_TRANSACTION = (
    "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"
)


async def rows(look: Look) -> list[str]:
    return [row["text"] for row in await look.fetch("SELECT text FROM notes ORDER BY text")]


async def test_a_request_commits_once_it_succeeded(
    api: httpx2.AsyncClient, look: Look, database: Database
) -> None:
    assert (await api.post("/notes/a")).status_code == 201
    assert await rows(look) == ["a"]
    assert database.connections_in_use == 0


@pytest.mark.parametrize("status", [409, 422, 500])
async def test_a_request_that_fails_leaves_no_row(
    status: int, api: httpx2.AsyncClient, look: Look, database: Database
) -> None:
    assert (await api.post(f"/notes/a/then/{status}")).status_code == status
    assert await rows(look) == []
    assert database.connections_in_use == 0


async def test_a_failing_commit_is_an_error_and_leaves_no_row(
    api: httpx2.AsyncClient, look: Look, database: Database
) -> None:
    assert (await api.post("/notes/a")).status_code == 201
    # The constraint is deferred: the second row fails in the commit, not in the insert.
    answer = await api.post("/notes/a")
    assert answer.status_code == 500
    assert "notes" not in answer.json()["detail"]
    assert await rows(look) == ["a"]
    assert database.connections_in_use == 0


async def test_what_follows_the_answer_sees_the_committed_row(api: httpx2.AsyncClient) -> None:
    assert (await api.post("/notes/a/counted-after")).status_code == 202
    assert notes.counted == [1]


async def test_a_request_that_is_cut_leaves_no_row(
    api: httpx2.AsyncClient, look: Look, database: Database
) -> None:
    request = asyncio.create_task(api.post("/notes/a/held"))
    await notes.held.reached.wait()
    assert database.connections_in_use == 1
    request.cancel()
    await asyncio.gather(request, return_exceptions=True)
    await returned(database)
    assert await rows(look) == []


async def test_a_client_that_leaves_a_stream_leaks_nothing(
    service: FastAPI, database: Database
) -> None:
    sent: list[Message] = []
    enough = asyncio.Event()

    async def send(message: Message) -> None:
        sent.append(message)
        if len(sent) > 3:
            enough.set()

    async def receive() -> Message:
        await enough.wait()
        return {"type": "http.disconnect"}

    await service(asgi.scope("/notes/stream"), receive, send)
    assert 3 < len(sent) < 5000
    await returned(database)


async def test_a_client_whose_connection_breaks_in_a_stream_leaks_nothing(
    service: FastAPI, database: Database
) -> None:
    async def send(message: Message) -> None:
        if message.get("body") == b"7\n":
            raise OSError

    async def receive() -> Message:
        return await asyncio.Event().wait()  # type: ignore[return-value]  # it never returns

    with suppress(ClientDisconnect):
        await service(asgi.scope("/notes/stream", spec_version="2.4"), receive, send)
    await returned(database)


async def test_a_stream_gives_every_row(api: httpx2.AsyncClient, database: Database) -> None:
    lines = (await api.get("/notes/stream")).text.splitlines()
    assert lines == [str(number) for number in range(1, 5001)]
    assert database.connections_in_use == 0


async def test_reads_see_new_data_with_each_statement_and_transactions_one_time(
    database: Database,
) -> None:
    async with database.reading() as session:
        assert await clock(session) < await clock(session)
    async with database.transaction() as session:
        assert await clock(session) == await clock(session)


async def clock(session: Any) -> Any:
    return await session.scalar(text("SELECT now()"))


async def test_rows_are_dicts_of_what_is_there_now(
    api: httpx2.AsyncClient, database: Database
) -> None:
    for name in "ab":
        assert (await api.post(f"/notes/{name}")).status_code == 201
    query = text("SELECT text, length(text) AS size FROM notes WHERE text > :after")
    assert await database.rows(query, {"after": "a"}) == [{"text": "b", "size": 1}]
    assert await database.rows(query, {"after": "b"}) == []
    assert database.connections_in_use == 0


async def test_rows_are_read_outside_of_a_transaction_and_the_next_one_has_its_own(
    database: Database,
) -> None:
    added = text("INSERT INTO notes VALUES (:name) RETURNING text")
    found = text("SELECT text FROM notes")
    # Nobody commits it.
    assert await database.rows(added, {"name": "a"}) == [{"text": "a"}]
    assert await database.rows(found) == [{"text": "a"}]
    async with database.transaction() as session:
        await session.execute(added, {"name": "b"})
        await session.rollback()
    assert await database.rows(found) == [{"text": "a"}]


async def test_who_leaves_while_rows_are_read_holds_no_connection(database: Database) -> None:
    reading = asyncio.create_task(database.rows(text("SELECT pg_sleep(30)")))
    await until(lambda: database.connections_in_use == 1)
    await turns(20)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert database.connections_in_use == 0
    assert await database.rows(text("SELECT 1 AS one")) == [{"one": 1}]


async def test_rows_that_take_too_long_are_a_problem_and_the_connection_goes_on(
    notes_settings: DatabaseSettings,
) -> None:
    settings = notes_settings.model_copy(update={"statement_timeout_ms": 1000})
    async with open_database(settings) as database:
        with pytest.raises(StatementTimeout):
            await database.rows(text("SELECT pg_sleep(30)"))
        assert database.connections_in_use == 0
        assert await database.rows(text("SELECT 1 AS one")) == [{"one": 1}]


@pytest.mark.usefixtures("full_pool_is_given_up")
async def test_a_full_pool_is_a_problem_that_says_when_to_come_back(
    api: httpx2.AsyncClient, database: Database
) -> None:
    async with database.engine.connect(), database.engine.connect():
        answer = await api.post("/notes/a")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert answer.json()["detail"] == "The database is not available; try again soon."
    assert (await api.post("/notes/a")).status_code == 201


async def test_a_statement_over_its_time_is_a_problem_and_the_connection_goes_on(
    api: httpx2.AsyncClient, database: Database
) -> None:
    async with database.engine.connect() as one, database.engine.connect() as two:
        for connection in (one, two):
            await connection.execute(text("SET statement_timeout = 1000"))
            await connection.commit()
    assert (await api.get("/notes/sleep/30")).status_code == 504
    assert database.connections_in_use == 0


@pytest.mark.usefixtures("idle_for_long")
async def test_a_connection_ended_by_the_server_is_replaced(
    api: httpx2.AsyncClient, database: Database, look: Look
) -> None:
    assert (await api.post("/notes/a")).status_code == 201
    await end_all(look)
    assert (await api.post("/notes/b")).status_code == 201
    with pytest.raises(DatabaseUnavailable):
        await notes.ask_before_and_after(database.transaction(), partial(end_all, look))
    assert database.connections_in_use == 0
    assert (await api.post("/notes/c")).status_code == 201


async def test_a_timeout_of_the_route_itself_is_a_bug_not_the_database(
    api: httpx2.AsyncClient,
) -> None:
    assert (await api.get("/notes/own-timeout")).status_code == 500


async def test_an_error_in_a_query_is_a_bug_and_the_client_sees_no_sql(
    api: httpx2.AsyncClient,
) -> None:
    # A note is there once.
    await api.post("/notes/again")
    answer = await api.post("/notes/again")
    assert answer.status_code == 500
    for part in ("INSERT", "notes VALUES", "Traceback", "asyncpg", "sqlalchemy"):
        assert part not in answer.text


async def end_all(look: "asyncpg.Connection[asyncpg.Record]") -> None:
    await look.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )


async def returned(database: Database) -> None:
    """Wait until the pool has every connection back; the test's timeout is the limit."""
    while database.connections_in_use:  # noqa: ASYNC110 - the pool tells nobody
        await asyncio.sleep(0)


async def test_a_transaction_whose_failed_statement_was_caught_is_no_success(
    api: httpx2.AsyncClient, look: Look
) -> None:
    answer = await api.post("/notes/a/after-a-caught-error")
    assert answer.status_code == 500
    assert await rows(look) == []


async def test_an_error_that_is_caught_in_a_savepoint_costs_nothing_else(
    api: httpx2.AsyncClient, look: Look, database: Database
) -> None:
    for name in ("a", "b"):
        answer = await api.post(f"/notes/{name}/after-a-caught-error", params={"savepoint": True})
        assert answer.status_code == 201
    assert await rows(look) == ["a", "b"]
    assert database.connections_in_use == 0


@pytest.mark.parametrize("way", ["background", "stream"])
async def test_a_session_that_is_used_after_its_request_is_an_error_at_once(
    way: str, api: httpx2.AsyncClient, look: Look, database: Database
) -> None:
    with capture_logs() as logs, suppress(httpx2.RemoteProtocolError):
        await api.post(f"/notes/a/late/{way}")
    assert "unhandled error" in [entry["event"] for entry in logs]
    assert await rows(look) == []
    assert database.connections_in_use == 0
    assert await look.fetchval(IDLE_IN_TRANSACTION) == 0


@pytest.mark.parametrize(
    "sqlstate",
    ["40001", "40P01", "55P03", "25006"],
    ids=["serialization", "deadlock", "lock", "standby"],
)
async def test_what_a_retry_cures_is_no_bug(
    sqlstate: str, api: httpx2.AsyncClient, database: Database, look: Look
) -> None:
    answer = await api.post(f"/notes/a/raises/{sqlstate}")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert await rows(look) == []
    assert (await api.post("/notes/b")).status_code == 201
    assert database.connections_in_use == 0


async def test_a_server_that_became_read_only_gets_no_more_requests(
    api: httpx2.AsyncClient, look: Look
) -> None:
    assert (await api.post("/notes/a")).status_code == 201
    before = await api.get("/notes/backend")
    await api.post("/notes/b/raises/25006")
    assert (await api.get("/notes/backend")).json() != before.json()


async def test_a_column_that_changes_its_type_is_not_seen_by_reads(
    database: Database, look: Look
) -> None:
    await look.execute("CREATE TABLE kinds (kind varchar(5)); INSERT INTO kinds VALUES ('a')")
    try:
        query = text("SELECT kind FROM kinds")
        assert await database.rows(query) == [{"kind": "a"}]
        await look.execute("ALTER TABLE kinds ALTER kind TYPE varchar(50)")
        assert await database.rows(query) == [{"kind": "a"}]
        async with database.transaction() as session:
            await session.execute(query)
        await look.execute("ALTER TABLE kinds ALTER kind TYPE text")
        with pytest.raises(DatabaseUnavailable):
            async with database.transaction() as session:
                await session.execute(query)
        async with database.transaction() as session:
            assert await session.scalar(query) == "a"
    finally:
        await look.execute("DROP TABLE kinds")
