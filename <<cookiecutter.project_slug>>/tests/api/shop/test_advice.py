from dataclasses import replace

from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.features.shop.advice import AssistantUnavailable
from tests.unit.shop.assistants import Said

GAMES = "/api/v1/games"
ADVICE = f"{GAMES}/1/advice"


def add_game(client: TestClient) -> None:
    client.post(GAMES, json={"name": "Catan", "price": "49.90"})


def test_advice_comes_as_server_sent_events(client: TestClient) -> None:
    add_game(client)
    answer = client.get(ADVICE)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    *messages, end, rest = answer.text.split("\n\n")
    assert messages[0] == 'data: {"text":"Catan "}'
    assert end == f'event: done\ndata: {{"pieces":{len(messages)}}}'
    assert rest == ""


def test_there_is_no_advice_on_an_unknown_game(client: TestClient) -> None:
    answer = client.get(ADVICE)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


def test_an_assistant_that_is_away_is_a_problem_with_a_time_to_come_back(
    app: FastAPI, client: TestClient
) -> None:
    add_game(client)
    app.state.shop = replace(app.state.shop, assistant=Said(AssistantUnavailable()))
    answer = client.get(ADVICE)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


def test_an_assistant_that_breaks_off_is_told_by_the_last_event(
    app: FastAPI, client: TestClient
) -> None:
    add_game(client)
    app.state.shop = replace(app.state.shop, assistant=Said("is", AssistantUnavailable()))
    answer = client.get(ADVICE)
    assert answer.status_code == 200
    assert answer.text.split("\n\n")[1].startswith("event: error\ndata: ")
