"""Price and stock, by HTTP and at the till's WebSocket: many look-ups, one query."""

import asyncio
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import event, text
from starlette.types import Message
from starlette.websockets import WebSocketDisconnect
from structlog.testing import capture_logs

from app.features.shop import queries, stock, till
from app.features.shop.schemas import ScanError
from slipway_kit.db import Database
from slipway_kit.http import Drain
from slipway_kit.service import runtime_of
from slipway_kit.testing import asgi, soon

GAMES = "/api/v1/games"
TILL = f"{GAMES}/till"


@pytest.fixture
def game_id(client: TestClient) -> int:
    answer = client.post(GAMES, json={"name": "Catan", "price": "49.90"})
    return int(answer.json()["id"])


def test_the_stock_of_a_game_is_its_price_and_whether_it_is_there(
    client: TestClient, game_id: int
) -> None:
    answer = client.get(f"{GAMES}/{game_id}/stock")
    assert answer.status_code == 200
    assert answer.json() == {"id": game_id, "price": "49.90", "in_stock": True}
    unknown = client.get(f"{GAMES}/{game_id + 1}/stock")
    assert unknown.status_code == 404
    assert unknown.json()["detail"] == f"There is no game {game_id + 1}."


@pytest.fixture
def statements(database: Database) -> Iterator[list[str]]:
    """The statements that the database is sent."""
    sent: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        sent.append(statement)

    event.listen(database.engine.sync_engine, "before_cursor_execute", note)
    yield sent
    event.remove(database.engine.sync_engine, "before_cursor_execute", note)


@pytest.mark.anyio
async def test_look_ups_that_arrive_together_share_one_query(
    database: Database, statements: list[str]
) -> None:
    async with database.transaction() as session:
        await session.execute(
            text("INSERT INTO games (name, price) SELECT n, n FROM generate_series(1, 50) n")
        )
    statements.clear()
    batcher = stock.batcher(database)
    async with batcher.running():
        asked = [*range(1, 51), *range(1, 11), 99]
        found = await asyncio.gather(
            *(stock.look_up(batcher, game_id) for game_id in asked), return_exceptions=True
        )
    assert [getattr(each, "id", None) for each in found[:-1]] == asked[:-1]
    assert isinstance(found[-1], queries.GameNotFound)
    assert len(statements) == 1
    assert database.connections_in_use == 0


def test_an_unknown_game_is_an_error_and_the_till_goes_on(client: TestClient, game_id: int) -> None:
    with client.websocket_connect(TILL) as socket:
        socket.send_json({"id": game_id + 1})
        assert socket.receive_json() == {"error": f"There is no game {game_id + 1}."}
        socket.send_json({"id": game_id})
        assert socket.receive_json() == {"id": game_id, "price": "49.90", "in_stock": True}


def test_a_bad_message_is_an_error_and_the_till_goes_on(client: TestClient, game_id: int) -> None:
    with client.websocket_connect(TILL) as socket:
        for message in ("", "x", "[]", "{}", '{"id": 0}', '{"id": 9223372036854775808}'):
            socket.send_text(message)
            assert socket.receive_json() == {"error": 'Send {"id": <number>}.'}
        socket.send_bytes(b"\xff")
        assert socket.receive_json() == {"error": 'Send {"id": <number>}.'}
        socket.send_bytes(b'{"id": %d}' % game_id)
        assert socket.receive_json()["id"] == game_id


def test_a_till_holds_no_connection_between_scans_and_sees_what_changed(
    app: FastAPI, client: TestClient, game_id: int
) -> None:
    database = runtime_of(app).get(Database)
    with client.websocket_connect(TILL) as socket:
        socket.send_json({"id": game_id})
        assert socket.receive_json()["in_stock"] is True
        assert database.connections_in_use == 0
        changed = {"name": "Catan", "price": 1, "in_stock": False}
        client.put(f"{GAMES}/{game_id}", json=changed)
        socket.send_json({"id": game_id})
        assert socket.receive_json() == {"id": game_id, "price": "1.00", "in_stock": False}


def test_a_worker_that_leaves_hangs_up_after_its_next_answer(
    app: FastAPI, client: TestClient, game_id: int
) -> None:
    with client.websocket_connect(TILL) as socket:
        runtime_of(app).get(Drain).begin()
        socket.send_json({"id": game_id})
        assert socket.receive_json()["id"] == game_id
        with pytest.raises(WebSocketDisconnect) as end:
            socket.receive_json()
    assert end.value.code == 1012


@pytest.mark.anyio
async def test_a_scan_at_a_full_pool_is_an_error_of_the_till(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database.engine.pool, "_timeout", 0.02)
    batcher = stock.batcher(database)
    async with batcher.running(), database.engine.connect(), database.engine.connect():
        answer = await till.look_up(batcher, '{"id": 1}')
    assert answer == ScanError(error="The database is not available; try again soon.")


@pytest.mark.anyio
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
            await app(asgi.websocket_scope(TILL), receive, send)
        assert runtime_of(app).get(Database).connections_in_use == 0
        await soon(lambda: asyncio.all_tasks() <= tasks)
    assert [event["event"] for event in events if event["log_level"] == "error"] == []
