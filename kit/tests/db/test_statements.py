"""A span for each statement, against a real server."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from sqlalchemy import text

from kit.tests.support.tracing import recorded_spans
from slipway_kit.db.engine import open_database
from slipway_kit.db.errors import InvalidValue, StatementTimeout
from slipway_kit.db.sessions import Database
from slipway_kit.db.settings import DatabaseSettings
from slipway_kit.db.statements import MAX_TEXT
from slipway_kit.tracing.request_spans import UnrecordedSpan

pytestmark = pytest.mark.anyio


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    with recorded_spans() as exporter:
        yield exporter


@pytest.fixture
async def database(
    database_settings: DatabaseSettings, spans: InMemorySpanExporter
) -> AsyncIterator[Database]:
    async with open_database(database_settings) as opened:
        yield opened


def only(spans: InMemorySpanExporter) -> ReadableSpan:
    (span,) = spans.get_finished_spans()
    return span


async def ask(database: Database, statement: str, **parameters: str) -> None:
    async with database.reading() as session:
        await session.execute(text(statement), parameters)


async def test_a_statement_is_a_child_of_the_request_in_the_names_of_today(
    database: Database, spans: InMemorySpanExporter, database_settings: DatabaseSettings
) -> None:
    tracer = trace.get_tracer("test")
    with tracer.start_as_current_span("request") as request:
        async with database.reading() as session:
            await session.execute(
                text("SELECT CAST(:name AS text)"), {"name": "no value in the span"}
            )
    statement, _ = spans.get_finished_spans()
    assert (statement.name, statement.kind) == ("SELECT migrated", SpanKind.CLIENT)
    assert statement.parent is not None
    assert statement.parent.span_id == request.get_span_context().span_id
    address = database_settings.address
    assert statement.attributes == {
        "db.system.name": "postgresql",
        "db.namespace": "migrated",
        "db.operation.name": "SELECT",
        "db.query.text": "SELECT CAST($1 AS text)",
        "server.address": address.host,
        "server.port": address.port,
    }
    assert statement.status.is_unset


async def test_a_statement_of_a_request_that_is_not_recorded_asks_nobody_for_a_span(
    database: Database, spans: InMemorySpanExporter
) -> None:
    request = UnrecordedSpan((f"{1:032x}", f"{1:016x}"), Context(), None)
    try:
        await ask(database, "SELECT 1")
    finally:
        request.close({})
    assert not spans.get_finished_spans()
    await ask(database, "SELECT 1")
    assert only(spans).name == "SELECT migrated"


async def test_an_error_is_named_and_its_message_which_may_quote_a_value_is_not(
    database: Database, spans: InMemorySpanExporter
) -> None:
    with pytest.raises(InvalidValue):
        await ask(database, "SELECT CAST(CAST(:name AS text) AS integer)", name="secret")
    span = only(spans)
    assert span.attributes is not None
    assert span.attributes["error.type"] == span.attributes["db.response.status_code"] == "22P02"
    assert not span.status.is_ok
    assert "secret" not in span.to_json()


async def test_a_statement_whose_error_is_translated_ends_its_span_too(
    database_settings: DatabaseSettings, spans: InMemorySpanExporter
) -> None:
    settings = database_settings.model_copy(update={"statement_timeout_ms": 1000})
    async with open_database(settings) as database:
        with pytest.raises(StatementTimeout):
            await ask(database, "SELECT pg_sleep(30)")
    span = only(spans)
    assert span.attributes is not None
    assert span.attributes["error.type"] == "57014"


async def test_a_statement_that_is_cancelled_ends_its_span_too(
    database: Database, spans: InMemorySpanExporter
) -> None:
    begun = asyncio.Event()

    async def wait() -> None:
        async with database.reading() as session:
            await session.connection()
            begun.set()
            await session.execute(text("SELECT pg_sleep(30)"))

    task = asyncio.create_task(wait())
    # It goes on from there without a pause until it waits for the server.
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    span = only(spans)
    assert span.attributes is not None
    assert span.attributes["error.type"] == "CancelledError"


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        ("  select 1", "SELECT migrated"),
        ("WITH x AS (SELECT 1) SELECT * FROM x", "WITH migrated"),
        ("/* hint */ SELECT 1", "postgresql migrated"),
        ("(SELECT 1)", "postgresql migrated"),
    ],
)
async def test_the_name_has_few_values(
    database: Database, spans: InMemorySpanExporter, statement: str, name: str
) -> None:
    await ask(database, statement)
    assert only(spans).name == name


async def test_a_long_statement_is_cut(database: Database, spans: InMemorySpanExporter) -> None:
    await ask(database, f"SELECT 1 -- {'x' * 10_000}")
    attributes = only(spans).attributes
    assert attributes is not None
    assert len(str(attributes["db.query.text"])) == MAX_TEXT


async def test_many_rows_at_once_and_a_stream_are_a_span_each(
    database: Database, spans: InMemorySpanExporter
) -> None:
    async with database.transaction() as session:
        await session.execute(text("CREATE TEMP TABLE t (name text UNIQUE) ON COMMIT DROP"))
        await session.execute(text("INSERT INTO t VALUES (:n)"), [{"n": "a"}, {"n": "b"}])
        rows = await session.stream_scalars(text("SELECT name FROM t"))
        assert [row async for row in rows] == ["a", "b"]
    names = [span.name.split()[0] for span in spans.get_finished_spans()]
    assert names == ["CREATE", "INSERT", "SELECT"]


async def test_without_traces_nothing_is_between(database_settings: DatabaseSettings) -> None:
    async with open_database(database_settings) as opened:
        assert "do_execute" not in vars(opened.engine.dialect)
