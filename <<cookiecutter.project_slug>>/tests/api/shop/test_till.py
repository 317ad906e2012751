import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from slipway_kit.db.sessions import Database

TILL = "/api/v1/games/till"


@pytest.fixture
def game_id(client: TestClient) -> int:
    answer = client.post("/api/v1/games", json={"name": "Catan", "price": "49.90"})
    return int(answer.json()["id"])


def test_a_scan_is_answered_with_price_and_stock(client: TestClient, game_id: int) -> None:
    with client.websocket_connect(TILL) as till:
        for _ in range(3):
            till.send_json({"id": game_id})
            assert till.receive_json() == {"id": game_id, "price": "49.90", "in_stock": True}


def test_an_unknown_game_is_an_error_and_the_till_goes_on(client: TestClient, game_id: int) -> None:
    with client.websocket_connect(TILL) as till:
        till.send_json({"id": game_id + 1})
        assert till.receive_json() == {"error": f"There is no game {game_id + 1}."}
        till.send_json({"id": game_id})
        assert till.receive_json()["id"] == game_id


@pytest.mark.parametrize(
    "message", ["", "x", "[]", "{}", '{"id": 0}', '{"id": 9223372036854775808}']
)
def test_a_bad_message_is_an_error_and_the_till_goes_on(
    message: str, client: TestClient, game_id: int
) -> None:
    with client.websocket_connect(TILL) as till:
        till.send_text(message)
        assert till.receive_json() == {"error": 'Send {"id": <number>}.'}
        till.send_bytes(b"\xff")
        assert till.receive_json() == {"error": 'Send {"id": <number>}.'}
        till.send_bytes(b'{"id": %d}' % game_id)
        assert till.receive_json()["id"] == game_id


def test_a_scan_sees_what_another_worker_changed(client: TestClient, game_id: int) -> None:
    with client.websocket_connect(TILL) as till:
        till.send_json({"id": game_id})
        assert till.receive_json()["in_stock"] is True
        changed = {"name": "Catan", "price": 1, "in_stock": False}
        client.put(f"/api/v1/games/{game_id}", json=changed)
        till.send_json({"id": game_id})
        assert till.receive_json() == {"id": game_id, "price": "1.00", "in_stock": False}


def test_a_till_holds_no_connection_between_scans(
    app: FastAPI, client: TestClient, game_id: int
) -> None:
    database: Database = app.state.resources.database
    with client.websocket_connect(TILL) as till:
        till.send_json({"id": game_id})
        till.receive_json()
        assert database.connections_in_use == 0


def test_a_worker_that_leaves_hangs_up_after_its_next_answer(
    app: FastAPI, client: TestClient, game_id: int
) -> None:
    with client.websocket_connect(TILL) as till:
        app.state.drain.begin()
        till.send_json({"id": game_id})
        assert till.receive_json()["id"] == game_id
        with pytest.raises(WebSocketDisconnect) as end:
            till.receive_json()
    assert end.value.code == 1012
