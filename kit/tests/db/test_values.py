"""Values that the database cannot take, and those that its errors must not show."""

import json
import traceback
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest
from opentelemetry import trace
from sqlalchemy import Enum, bindparam, select, text
from sqlalchemy.exc import DBAPIError, StatementError

from kit.tests.support.tracing import recorded_spans
from slipway_kit.db.engine import open_database
from slipway_kit.db.errors import InvalidValue
from slipway_kit.db.sessions import Database
from slipway_kit.db.settings import DatabaseSettings
from slipway_kit.logs.setup import LogSetup

pytestmark = pytest.mark.anyio
SECRET = "hunter2"
TABLE = """CREATE TEMP TABLE people (
    name text NOT NULL UNIQUE CHECK (name <> 'hunter2 checked'), age integer NOT NULL
) ON COMMIT DROP"""
EARLY = datetime.fromisoformat("0001-01-01T00:00:00+14:00")


@pytest.fixture
async def database(database_settings: DatabaseSettings) -> AsyncIterator[Database]:
    async with open_database(database_settings) as opened:
        yield opened


async def ask(database: Database, statement: str, **values: Any) -> None:
    async with database.transaction() as session:
        await session.execute(text(TABLE))
        await session.execute(text(statement), values)


@pytest.mark.parametrize(
    ("statement", "value"),
    [
        ("SELECT CAST(:value AS text)", "a\0b"),
        ("SELECT CAST(:value AS text)", "\ud800"),
        ("SELECT CAST(:value AS timestamptz)", EARLY),
        ("SELECT CAST(:value AS timestamp)", datetime.now(UTC)),
        ("SELECT CAST(:value AS integer)", 2**31),
        ("SELECT CAST(CAST(:value AS text) AS integer)", SECRET),
        ("SELECT CAST(CAST(:value AS text) AS jsonb)", '"\\u0000"'),
        ("SELECT 'a' ~ CAST(:value AS text)", "("),
        ("SELECT 1 LIMIT CAST(:value AS integer)", -1),
    ],
)
async def test_a_value_that_the_database_cannot_take_is_the_clients_fault(
    database: Database, statement: str, value: object
) -> None:
    with pytest.raises(InvalidValue) as refused:
        await ask(database, statement, value=value)
    assert refused.value.status == 422
    assert database.connections_in_use == 0


async def test_a_value_too_long_for_its_index_is_so_too(database: Database) -> None:
    long = "".join(chr(0x100 + each * 7919 % 50_000) for each in range(9000))
    with pytest.raises(InvalidValue):
        await ask(database, "INSERT INTO people VALUES (:value, 1)", value=long)


@pytest.mark.parametrize("statement", ["SELECT 1 / 0", "SELECT nothing", "SELEC"])
async def test_a_statement_that_is_wrong_stays_a_bug(database: Database, statement: str) -> None:
    with pytest.raises(DBAPIError):
        await ask(database, statement)


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("INSERT INTO people (name) VALUES (:v)", "NotNullViolationError 23502"),
        ("INSERT INTO people VALUES (:v || ' checked', 1)", "constraint people_name_check"),
        ("INSERT INTO people VALUES (:v, 1), (:v, 2)", "UniqueViolationError 23505"),
        ("SELECT CAST(CAST(:v AS text) AS integer)", "InvalidTextRepresentationError 22P02"),
        ("SELECT CAST(:v AS integer)", "DataError 22000"),
        ("SELECT CAST(:v AS uuid)", "DataError 22000"),
        (
            "DO $$ BEGIN RAISE 'hunter2' USING DETAIL = 'hunter2', HINT = 'hunter2'; END $$",
            "RaiseError P0001",
        ),
    ],
)
async def test_an_error_says_what_it_is_and_shows_no_value(
    database: Database, statement: str, said: str
) -> None:
    values = {"v": SECRET} if ":v" in statement else {}
    with pytest.raises((DBAPIError, InvalidValue)) as raised:
        await ask(database, statement, **values)
    shown = "".join(traceback.format_exception(raised.value)).replace(statement, "")
    assert said in shown
    # The lines of this file are no values.
    lines = [line for line in shown.splitlines() if not line.startswith("    ")]
    assert SECRET not in "\n".join(lines)


async def test_a_value_that_sqlalchemy_refuses_is_not_shown_either(database: Database) -> None:
    kind: Any = Enum("red", "blue", name="colour")
    with pytest.raises(StatementError) as raised:
        await database.rows(select(bindparam("v", type_=kind)), {"v": SECRET})
    assert SECRET not in "".join(traceback.format_exception(raised.value))


async def test_neither_log_nor_span_nor_answer_shows_a_stored_value(
    api: httpx2.AsyncClient, capsys: pytest.CaptureFixture[str], restored_logs: None
) -> None:
    LogSetup("INFO", json=True).apply()
    with recorded_spans() as spans:
        with trace.get_tracer("test").start_as_current_span("request"):
            assert (await api.post(f"/notes/{SECRET}")).status_code == 201
            again = await api.post(f"/notes/{SECRET}", headers={"X-Request-ID": "again"})
        shown = "".join(span.to_json() for span in spans.get_finished_spans())
    assert again.status_code == 500
    lines = [line for line in capsys.readouterr().out.splitlines() if "again" in line]
    assert [json.loads(line)["event"] for line in lines] == ["unhandled error", "request"]
    for text_ in (shown, *lines):
        assert SECRET not in text_
    assert "UniqueViolationError 23505" in shown
    assert "UniqueViolationError 23505" in lines[0]


async def test_a_value_that_cannot_be_stored_is_a_problem(api: httpx2.AsyncClient) -> None:
    answer = await api.post("/notes/a%00b")
    assert answer.status_code == 422
    assert answer.json()["detail"] == "The database cannot take a value of the request."
