"""The catalogue: what a game is, how it is added, changed, listed and exported."""

import asyncio
from decimal import Decimal
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from app.features.shop import queries
from app.features.shop.schemas import GameIn
from slipway_kit.db import Database
from slipway_kit.service import runtime_of

GAMES = "/api/v1/games"


def add(client: TestClient, name: str, price: str = "10.00") -> dict[str, Any]:
    answer = client.post(GAMES, json={"name": name, "price": price})
    assert answer.status_code == 201, answer.text
    game: dict[str, Any] = answer.json()
    return game


# What a game is.


@pytest.mark.parametrize("price", ["10", 10, "10.0", "1e1", 10.0])
def test_a_price_has_two_decimals_however_it_is_written(price: Any) -> None:
    assert str(GameIn.model_validate({"name": "Catan", "price": price}).price) == "10.00"


@given(st.decimals(min_value="0.01", max_value="99999999.99", places=2))
def test_every_price_in_cents_is_kept(price: Decimal) -> None:
    assert GameIn.model_validate({"name": "Catan", "price": str(price)}).price == price


@pytest.mark.parametrize("name", ["  Catan ", "Ĉatan", "麻雀", "👨‍👩‍👧 family", "O'Hare & Söhne"])
def test_a_name_may_be_in_any_script_and_loses_the_spaces_around_it(name: str) -> None:
    assert GameIn.model_validate({"name": name, "price": 1}).name == name.strip()


@pytest.mark.parametrize("name", ["", "   ", "x" * 101, "a\0b", "a\nb", "\x7f", "\ud800", 7, None])
def test_a_name_that_cannot_be_stored_or_read_is_refused(name: Any) -> None:
    with pytest.raises(ValidationError):
        GameIn.model_validate({"name": name, "price": 1})


@pytest.mark.parametrize("price", [0, -1, "0.001", 10**8, "NaN", "Infinity", 1e400, "ten", None])
def test_a_price_that_is_none_is_refused(price: Any) -> None:
    with pytest.raises(ValidationError):
        GameIn.model_validate({"name": "Catan", "price": price})


# The API.


def test_a_game_that_is_added_is_found_at_its_location(client: TestClient) -> None:
    answer = client.post(GAMES, json={"name": "Catan", "price": 49.9})
    assert answer.status_code == 201
    assert answer.json() == {"id": 1, "name": "Catan", "price": "49.90", "in_stock": True}
    assert answer.headers["location"] == f"{GAMES}/1"
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


def test_a_game_can_be_replaced_again_and_again(client: TestClient) -> None:
    add(client, "Catan")
    new = {"name": "Chess", "price": "5.00", "in_stock": False}
    for _ in range(2):
        answer = client.put(f"{GAMES}/1", json=new)
        assert (answer.status_code, answer.json()) == (200, {"id": 1, **new})
    assert client.get(f"{GAMES}/1").json() == {"id": 1, **new}


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


def test_an_id_that_no_game_can_have_is_refused(client: TestClient) -> None:
    for game_id in (2**63, 0, -1, "x", 1.5, "9" * 5000, "%00"):
        assert client.get(f"{GAMES}/{game_id}").status_code == 422, game_id


NO_GAMES = [
    rb'{"name": "a\u0000b", "price": 1}',
    rb'{"name": "\ud800", "price": 1}',
    b'{"name": "Catan", "price": 0}',
    b'{"name": "Catan", "price": 1e400}',
    b'{"name": "Catan", "price": NaN}',
    b'{"name": "Catan", "price": 1, "in_stock": 7}',
    b'{"name": "Catan", "price": 1, "id": 5}',
    b'{"price": 1}',
    b"[]",
    b"null",
]


def test_a_body_that_is_no_game_is_refused(client: TestClient) -> None:
    for body in NO_GAMES:
        answer = client.post(GAMES, content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 422, body
        assert answer.json()["errors"]
    assert client.get(GAMES).json()["games"] == []


def test_pages_follow_one_another_without_gap_or_repetition(client: TestClient) -> None:
    names = [add(client, f"game {number}")["name"] for number in range(5)]
    seen: list[str] = []
    after: int | None = 0
    while after is not None:
        page = client.get(GAMES, params={"after": after, "limit": 2}).json()
        seen += [game["name"] for game in page["games"]]
        after = page["next"]
        assert len(seen) <= len(names)
    assert seen == names


def test_a_last_page_that_is_full_has_no_next(client: TestClient) -> None:
    add(client, "Catan")
    add(client, "Chess")
    page = client.get(GAMES, params={"limit": 2}).json()
    assert (len(page["games"]), page["next"]) == (2, None)


def test_a_page_out_of_bounds_is_refused(client: TestClient) -> None:
    for query in ("limit=0", "limit=101", "after=-1", f"after={2**63}"):
        assert client.get(f"{GAMES}?{query}").status_code == 422, query


def test_the_export_holds_every_game_as_a_line(client: TestClient) -> None:
    assert client.get(f"{GAMES}/export").content == b""
    for number in range(3):
        add(client, f"game {number}")
    answer = client.get(f"{GAMES}/export")
    assert answer.headers["content-type"] == "application/x-ndjson"
    lines = [client.get(f"{GAMES}/{number}").text for number in (1, 2, 3)]
    assert answer.text.splitlines() == lines


# The database.


async def execute(database: Database, statement: str) -> None:
    async with database.transaction() as session:
        await session.execute(text(statement))


@pytest.mark.anyio
async def test_of_two_that_take_a_name_at_once_one_gets_it(database: Database) -> None:
    first_added, second_waits = asyncio.Event(), asyncio.Event()
    game = GameIn(name="Catan", price=Decimal(1))

    async def first() -> None:
        async with database.transaction() as session:
            await queries.add(session, game)
            first_added.set()
            await second_waits.wait()

    async def second() -> None:
        await first_added.wait()
        async with database.transaction() as session:
            adding = asyncio.create_task(queries.add(session, game))
            await asyncio.sleep(0)
            second_waits.set()
            await adding

    results = await asyncio.gather(first(), second(), return_exceptions=True)
    assert results[0] is None
    assert isinstance(results[1], queries.NameTaken)
    assert database.connections_in_use == 0


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("values", "constraint"),
    [
        ("('Catan', 0)", "ck_games_price_positive"),
        ("('Catan', 1), ('Catan', 2)", "uq_games_name"),
        ("(NULL, 1)", "column name"),
    ],
)
async def test_the_database_holds_the_rules_for_every_other_writer(
    values: str, constraint: str, database: Database
) -> None:
    with pytest.raises(IntegrityError, match=constraint):
        await execute(database, f"INSERT INTO games (name, price) VALUES {values}")


@pytest.mark.anyio
async def test_another_broken_rule_is_not_taken_for_a_taken_name(database: Database) -> None:
    free = GameIn.model_construct(name="Catan", price=Decimal(0), in_stock=True)
    with pytest.raises(IntegrityError, match="ck_games_price_positive"):
        async with database.transaction() as session:
            await queries.add(session, free)


@pytest.mark.anyio
async def test_a_game_is_in_stock_unless_another_writer_says_so(database: Database) -> None:
    await execute(database, "INSERT INTO games (name, price) VALUES ('Catan', 1)")
    async with database.reading() as session:
        assert (await queries.get(session, 1)).in_stock is True


@pytest.mark.anyio
async def test_exports_that_are_read_slowly_hold_no_connection(app: FastAPI) -> None:
    async with app.router.lifespan_context(app):
        database = runtime_of(app).get(Database)
        await execute(
            database,
            "INSERT INTO games (name, price) SELECT 'game ' || n, n FROM generate_series(1, 500) n",
        )
        # More than there are connections, each after its first page.
        exports = [queries.pages(database) for _ in range(12)]
        firsts = [await anext(export) for export in exports]
        assert all(len(games) == queries.ROWS_PER_CHUNK for games in firsts)
        assert len(await queries.page(database, after=0, limit=1)) == 1
        # The rest of one is read, all others are left.
        rest = [game["id"] async for games in exports[0] for game in games]
        assert rest == list(range(queries.ROWS_PER_CHUNK + 1, 501))
        for export in exports:
            await export.aclose()


@pytest.mark.anyio
async def test_an_export_that_fails_before_its_first_line_is_a_problem(app: FastAPI) -> None:
    transport = httpx2.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://service") as api,
    ):
        database = runtime_of(app).get(Database)
        await execute(database, "ALTER TABLE games RENAME TO gone")
        answer = await api.get(f"{GAMES}/export")
        await execute(database, "ALTER TABLE gone RENAME TO games")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
