import asyncio
from collections.abc import Iterator

import asyncpg
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from httpx2 import Response
from structlog.typing import EventDict

from app.features.shop import imports
from app.features.shop.settings import Settings as ShopSettings
from app.main import create_app
from slipway_kit.db.settings import DatabaseSettings
from slipway_kit.testing.waiting import eventually
from tests.conftest import service_settings

GAMES = "/api/v1/games"
IMPORTS = f"{GAMES}/imports"


def send(client: TestClient, content: str) -> Response:
    return client.post(IMPORTS, files={"file": content.encode()})


def stored(client: TestClient) -> dict[str, str]:
    """Name and price of every game."""
    games = client.get(GAMES, params={"limit": 100}).json()["games"]
    return {game["name"]: game["price"] for game in games}


def test_a_file_is_taken_with_its_report_and_stored_soon_after(client: TestClient) -> None:
    answer = send(client, "name,price\nCatan,49.90\nChess,free\n")
    assert answer.status_code == 202
    assert answer.json() == {
        "valid": 1,
        "errors": ["line 3: price: Input should be a valid decimal"],
    }
    assert answer.headers["location"] == GAMES
    eventually(lambda: stored(client) == {"Catan": "49.90"})


def test_a_game_that_is_there_gets_the_new_price_and_stock_and_keeps_its_id(
    client: TestClient,
) -> None:
    client.post(GAMES, json={"name": "Catan", "price": "10.00"})
    send(client, "name,price,in_stock\nCatan,1,true\nChess,5,true\nCatan,12,false\n")
    eventually(lambda: stored(client) == {"Catan": "12.00", "Chess": "5.00"})
    game = {"id": 1, "name": "Catan", "price": "12.00", "in_stock": False}
    assert client.get(f"{GAMES}/1").json() == game


def test_a_file_without_a_game_is_a_problem_and_nothing_is_queued(client: TestClient) -> None:
    answer = send(client, "name,price\nCatan,-1\n")
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert "line 2: price" in answer.json()["detail"]


def test_what_is_stored_is_logged_with_the_id_of_the_request(
    client: TestClient, events: list[EventDict]
) -> None:
    send(client, "name,price\nCatan,1\n")
    eventually(lambda: [event for event in events if event["event"] == "games imported"])


@pytest.fixture
def small(database_settings: DatabaseSettings) -> FastAPI:
    """A service with room for one file beside the one that is being stored."""
    settings = service_settings(database_settings)
    shop = ShopSettings(import_queue_size=1)
    return create_app(settings.model_copy(update={"features": (shop,)}))


@pytest.fixture
def held(migrated_url: str, small: FastAPI) -> Iterator[TestClient]:
    """A client of it, while nobody can write games; the table is free at the end of the test."""
    with asyncio.Runner() as runner, TestClient(small) as client:
        connection = runner.run(asyncpg.connect(migrated_url))
        runner.run(connection.execute("BEGIN; LOCK TABLE games IN EXCLUSIVE MODE"))
        yield client
        runner.run(connection.close())


def test_a_full_queue_refuses_with_a_time_to_come_back_and_keeps_what_it_took(
    held: TestClient, small: FastAPI
) -> None:
    names = [f"game {number}" for number in range(4)]
    answers = {name: send(held, f"name,price\n{name},1\n") for name in names}
    refused = [name for name in names if answers[name].status_code == 503]
    assert {answer.status_code for answer in answers.values()} == {202, 503}
    for name in refused:
        assert answers[name].headers["retry-after"] == "1"
        assert answers[name].headers["content-type"] == "application/problem+json"
    assert len(refused) in {2, 3}
    assert len(small.state.shop.imports) == 1


def test_a_file_of_the_largest_size_is_stored_whole(client: TestClient) -> None:
    rows = "".join(f"game {number},1\n" for number in range(imports.ROWS_PER_TRANSACTION + 1))
    assert send(client, f"name,price\n{rows}").json()["valid"] == 501
    eventually(lambda: client.get(f"{GAMES}/501").status_code == 200)
