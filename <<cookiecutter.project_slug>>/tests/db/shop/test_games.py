import asyncio
from decimal import Decimal

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from starlette.types import Message
from structlog.testing import capture_logs

from app.features.shop import queries, stock, till
from app.features.shop.schemas import GameIn, ScanError
from slipway_kit.db.sessions import Database
from slipway_kit.testing import asgi

pytestmark = pytest.mark.anyio


def game(name: str) -> GameIn:
    return GameIn(name=name, price=Decimal(1))


async def test_of_two_that_take_a_name_at_once_one_gets_it(database: Database) -> None:
    first_added, second_waits = asyncio.Event(), asyncio.Event()

    async def first() -> None:
        async with database.transaction() as session:
            await queries.add(session, game("Catan"))
            first_added.set()
            await second_waits.wait()

    async def second() -> None:
        await first_added.wait()
        async with database.transaction() as session:
            adding = asyncio.create_task(queries.add(session, game("Catan")))
            await asyncio.sleep(0)
            second_waits.set()
            await adding

    results = await asyncio.gather(first(), second(), return_exceptions=True)
    assert results[0] is None
    assert isinstance(results[1], queries.NameTaken)
    assert database.connections_in_use == 0


@pytest.mark.parametrize(
    ("values", "constraint"),
    [
        ("('Catan', 0)", "ck_games_price_positive"),
        ("('Catan', 1), ('Catan', 2)", "uq_games_name"),
        ("(NULL, 1)", "null value in column"),
    ],
)
async def test_the_database_holds_the_rules_for_every_other_writer(
    values: str, constraint: str, database: Database
) -> None:
    with pytest.raises(IntegrityError, match=constraint):
        await execute(database, f"INSERT INTO games (name, price) VALUES {values}")


async def test_another_broken_rule_is_not_taken_for_a_taken_name(database: Database) -> None:
    free = GameIn.model_construct(name="Catan", price=Decimal(0), in_stock=True)
    with pytest.raises(IntegrityError, match="ck_games_price_positive"):
        await add(database, free)


async def add(database: Database, new: GameIn) -> None:
    async with database.transaction() as session:
        await queries.add(session, new)


async def execute(database: Database, statement: str) -> None:
    async with database.transaction() as session:
        await session.execute(text(statement))


async def test_a_game_is_in_stock_unless_another_writer_says_so(database: Database) -> None:
    await execute(database, "INSERT INTO games (name, price) VALUES ('Catan', 1)")
    async with database.reading() as session:
        assert (await queries.get(session, 1)).in_stock is True


async def test_a_scan_at_a_full_pool_is_an_error_of_the_till(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database.engine.pool, "_timeout", 0.02)
    batcher = stock.batcher(database)
    async with batcher.running(), database.engine.connect(), database.engine.connect():
        answer = await till.look_up(batcher, '{"id": 1}')
    assert answer == ScanError(error="The database is not available; try again soon.")


async def test_an_export_that_is_left_halfway_gives_its_connection_back(app: FastAPI) -> None:
    async with app.router.lifespan_context(app):
        database: Database = app.state.resources.database
        await execute(
            database,
            "INSERT INTO games (name, price)"
            " SELECT 'game ' || n, n FROM generate_series(1, 2000) n",
        )
        bodies = await asgi.read_some(app, "/api/v1/games/export")
        assert 1 < len(bodies) < 2000 / queries.ROWS_PER_CHUNK
        while database.connections_in_use:  # noqa: ASYNC110 - the pool tells nobody
            await asyncio.sleep(0)


async def test_a_till_that_leaves_before_its_answer_is_no_error(app: FastAPI) -> None:
    messages = iter(
        [
            {"type": "websocket.connect"},
            {"type": "websocket.receive", "text": '{"id": 1}'},
        ]
    )

    async def receive() -> Message:
        return next(messages)

    async def send(message: Message) -> None:
        if message["type"] == "websocket.send":
            raise OSError

    async with app.router.lifespan_context(app):
        tasks = asyncio.all_tasks()
        with capture_logs() as events:
            await app(asgi.websocket_scope("/api/v1/games/till"), receive, send)
        assert app.state.resources.database.connections_in_use == 0
        await asyncio.sleep(0)
        assert asyncio.all_tasks() <= tasks
    assert [event["event"] for event in events if event["log_level"] == "error"] == []


async def test_an_export_that_fails_before_its_first_line_is_a_problem(app: FastAPI) -> None:
    transport = httpx2.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://service") as api,
    ):
        database: Database = app.state.resources.database
        async with database.engine.connect() as other:
            await other.execute(text("ALTER TABLE games RENAME TO gone"))
            await other.commit()
            answer = await api.get("/api/v1/games/export")
            await other.execute(text("ALTER TABLE gone RENAME TO games"))
            await other.commit()
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
