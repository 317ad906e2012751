from datetime import datetime

from fastapi.testclient import TestClient

GAMES = "/api/v1/games"
SUMMARY = f"{GAMES}/summary"


def test_an_empty_shop_has_a_summary(client: TestClient) -> None:
    summary = client.get(SUMMARY).json()
    assert datetime.fromisoformat(summary.pop("as_of")).tzinfo
    assert summary == {"games": 0, "in_stock": 0, "value": "0.00"}


def test_the_summary_counts_what_is_in_stock_and_says_its_age(client: TestClient) -> None:
    client.post(GAMES, json={"name": "Catan", "price": "49.90"})
    client.post(GAMES, json={"name": "Chess", "price": "12", "in_stock": False})
    answer = client.get(SUMMARY)
    assert answer.json()["games"] == 2
    assert answer.json()["in_stock"] == 1
    assert answer.json()["value"] == "49.90"
    assert answer.headers["age"] == "0"


def test_the_summary_is_counted_once_for_those_who_ask_in_time(client: TestClient) -> None:
    first = client.get(SUMMARY).json()
    client.post(GAMES, json={"name": "Catan", "price": "49.90"})
    assert client.get(SUMMARY).json() == first
