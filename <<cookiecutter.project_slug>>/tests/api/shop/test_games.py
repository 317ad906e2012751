from decimal import Decimal
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from structlog.typing import EventDict

from app.features.shop import announcements

GAMES = "/api/v1/games"


def add(client: TestClient, name: str, price: str = "10.00") -> dict[str, Any]:
    answer = client.post(GAMES, json={"name": name, "price": price})
    assert answer.status_code == 201, answer.text
    game: dict[str, Any] = answer.json()
    return game


def test_a_game_that_is_added_is_found_at_its_location(client: TestClient) -> None:
    answer = client.post(GAMES, json={"name": "Catan", "price": 49.9})
    assert answer.status_code == 201
    assert answer.json() == {"id": 1, "name": "Catan", "price": "49.90", "in_stock": True}
    assert answer.headers["location"] == "/api/v1/games/1"
    assert client.get(answer.headers["location"]).json() == answer.json()


def test_a_location_leads_through_a_proxy_that_strips_a_prefix(app: FastAPI) -> None:
    with TestClient(app, root_path="/shop") as client:
        answer = client.post(GAMES, json={"name": "Catan", "price": 1})
    assert answer.headers["location"] == f"/shop{GAMES}/1"


def test_a_name_is_taken_once(client: TestClient) -> None:
    add(client, "Catan")
    add(client, "Chess")
    again = client.post(GAMES, json={"name": "Catan", "price": 1})
    renamed = client.put(f"{GAMES}/2", json={"name": "Catan", "price": 1})
    for answer in (again, renamed):
        assert answer.status_code == 409
        assert answer.json()["detail"] == "There is already a game named 'Catan'."
    assert [game["name"] for game in client.get(GAMES).json()["games"]] == ["Catan", "Chess"]


def test_a_game_can_be_replaced(client: TestClient) -> None:
    add(client, "Catan")
    new = {"name": "Chess", "price": "5.00", "in_stock": False}
    answer = client.put(f"{GAMES}/1", json=new)
    assert (answer.status_code, answer.json()) == (200, {"id": 1, **new})
    assert client.get(f"{GAMES}/1").json() == {"id": 1, **new}
    assert client.put(f"{GAMES}/1", json=new).status_code == 200


def test_a_game_can_be_removed_once(client: TestClient) -> None:
    add(client, "Catan")
    removed = client.delete(f"{GAMES}/1")
    assert (removed.status_code, removed.content) == (204, b"")
    assert client.delete(f"{GAMES}/1").status_code == 404
    assert client.get(GAMES).json() == {"games": [], "next": None}


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_an_unknown_id_is_not_found(method: str, client: TestClient) -> None:
    body = {"name": "Catan", "price": 1} if method == "PUT" else None
    answer = client.request(method, f"{GAMES}/{2**63 - 1}", json=body)
    assert answer.status_code == 404
    assert answer.json()["detail"] == f"There is no game {2**63 - 1}."


@pytest.mark.parametrize("game_id", [str(2**63), "0", "-1", "x", "1.5", "9" * 5000, "%00"])
def test_an_id_that_no_game_can_have_is_refused(game_id: str, client: TestClient) -> None:
    assert client.get(f"{GAMES}/{game_id}").status_code == 422


@pytest.mark.parametrize(
    "body",
    [
        rb'{"name": "a\u0000b", "price": 1}',
        rb'{"name": "\ud800", "price": 1}',
        b'{"name": "Catan", "price": 0}',
        b'{"name": "Catan", "price": 1e400}',
        b'{"name": "Catan", "price": NaN}',
        b'{"name": "Catan", "price": 123456789.01}',
        b'{"name": "Catan", "price": 1, "in_stock": 7}',
        b'{"name": "Catan", "price": 1, "id": 5}',
        b'{"price": 1}',
        b"[]",
        b"null",
    ],
)
def test_a_body_that_is_no_game_is_refused(body: bytes, client: TestClient) -> None:
    answer = client.post(GAMES, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["errors"]
    assert client.get(GAMES).json()["games"] == []


def test_pages_follow_one_another_without_gap_or_repetition(client: TestClient) -> None:
    names = [add(client, f"game {number}")["name"] for number in range(5)]
    seen: list[str] = []
    after = 0
    while True:
        page = client.get(GAMES, params={"after": after, "limit": 2}).json()
        seen += [game["name"] for game in page["games"]]
        if page["next"] is None:
            break
        assert page["next"] > after
        after = page["next"]
    assert seen == names


def test_a_last_page_that_is_full_has_no_next(client: TestClient) -> None:
    add(client, "Catan")
    add(client, "Chess")
    page = client.get(GAMES, params={"limit": 2}).json()
    assert (len(page["games"]), page["next"]) == (2, None)


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=101", "limit=x", "after=-1", f"after={2**63}", "after=" + "9" * 5000],
)
def test_a_page_out_of_bounds_is_refused(query: str, client: TestClient) -> None:
    assert client.get(f"{GAMES}?{query}").status_code == 422


def test_the_export_holds_every_game_as_a_line(client: TestClient) -> None:
    for number in range(3):
        add(client, f"game {number}")
    answer = client.get(f"{GAMES}/export")
    assert answer.headers["content-type"] == "application/x-ndjson"
    lines = [client.get(f"{GAMES}/{number}").text for number in (1, 2, 3)]
    assert answer.text.splitlines() == lines


def test_the_export_of_an_empty_shop_is_empty(client: TestClient) -> None:
    answer = client.get(f"{GAMES}/export")
    assert (answer.status_code, answer.content) == (200, b"")


def test_a_file_is_checked_and_nothing_is_stored(client: TestClient) -> None:
    content = b"name,price\nCatan,1\nChess,free\n"
    answer = client.post(f"{GAMES}/imports/check", files={"file": content})
    assert answer.status_code == 200
    assert answer.json() == {
        "valid": 1,
        "errors": ["line 3: price: Input should be a valid decimal"],
    }
    assert client.get(GAMES).json()["games"] == []


def test_a_check_without_a_file_is_refused(client: TestClient) -> None:
    assert client.post(f"{GAMES}/imports/check").status_code == 422
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    broken = client.post(f"{GAMES}/imports/check", content=b"--y\r\n", headers=headers)
    assert broken.status_code in {400, 422}
    assert broken.headers["content-type"] == "application/problem+json"


def test_a_new_game_is_announced_after_its_answer(
    client: TestClient, events: list[EventDict]
) -> None:
    add(client, "Catan")
    client.post(GAMES, json={"name": "Catan", "price": 1})
    announced = [event for event in events if event["event"] == "game announced"]
    assert [(event["game_id"], event["name"]) for event in announced] == [(1, "Catan")]


def test_an_announcement_that_fails_is_logged_and_the_game_stays(
    client: TestClient, events: list[EventDict], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def announce(*_: object) -> None:
        raise ConnectionError

    monkeypatch.setattr(announcements, "announce", announce)
    add(client, "Catan")
    assert client.get(f"{GAMES}/1").status_code == 200
    [failure] = [event for event in events if event["event"] == "task failed"]
    assert "announce" in failure["task"]


def test_prices_are_exact(client: TestClient) -> None:
    add(client, "Catan", "99999999.99")
    assert Decimal(client.get(f"{GAMES}/1").json()["price"]) == Decimal("99999999.99")
