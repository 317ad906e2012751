"""Catalogue files: how they are read, queued and stored."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import asyncpg
import pytest
import stamina
from fastapi import FastAPI
from fastapi.testclient import TestClient
from httpx2 import Response
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.features.shop import imports
from app.features.shop.resources import ShopResources
from app.features.shop.schemas import GameIn
from app.features.shop.settings import Settings as ShopSettings
from app.main import create_app
from slipway_kit.db import Database, DatabaseSettings, DatabaseUnavailable, open_database
from slipway_kit.service import runtime_of
from slipway_kit.testing import eventually

GAMES = "/api/v1/games"
HEADER = b"name,price,in_stock\n"
BAD_HEADER = "line 1: the first line must be name,price or name,price,in_stock"

# Reading.


def test_columns_may_come_in_any_order_and_in_stock_may_be_missing() -> None:
    [game] = imports.parse(b"\xef\xbb\xbfprice, name\r\n9.5,Go\r\n")
    assert game == GameIn.model_validate({"name": "Go", "price": "9.50", "in_stock": True})


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", BAD_HEADER),
        (b"Catan,49.90\n", BAD_HEADER),
        (b"name,price,name\n", BAD_HEADER),
        (b"name,price,colour\n", BAD_HEADER),
        (HEADER + b"Catan,-1\n", "line 2: price: Input should be greater than 0"),
        (HEADER + b"Catan\n", "line 2: price: Field required"),
        (HEADER + b",1\n", "line 2: name: Field required"),
        (HEADER + b"Catan,1,true,x\n", "line 2: there are 4 fields for 3 columns"),
        (HEADER + b"a\0b,1\n", "line 2: name: String should match pattern"),
        (HEADER + b"Chess,1\nK\xf6nig,1\n", "line 3: this is not UTF-8"),
        (HEADER + b'"Catan,1\n', "line 2: unexpected end of data"),
        (HEADER + b"x" * 200_000 + b",1\n", "line 2: field larger than field limit (131072)"),
    ],
)
def test_a_bad_file_is_reported_by_line(content: bytes, error: str) -> None:
    assert imports.read(content).report.errors[0].startswith(error)


def test_rows_beyond_the_limit_are_left_unread() -> None:
    report = imports.read(HEADER + b"Catan,1\n" * (imports.MAX_ROWS + 5)).report
    assert report.valid == imports.MAX_ROWS
    assert report.errors == ["line 10002: a file may hold 10000 games; the rest is unread"]


def test_only_the_first_hundred_errors_are_told() -> None:
    report = imports.read(HEADER + b"Catan,0\n" * 500).report
    assert (report.valid, len(report.errors)) == (0, 100)


@given(st.binary())
def test_any_bytes_get_a_report(content: bytes) -> None:
    assert imports.read(HEADER + content).report.valid >= 0


# The API.


def send(client: TestClient, content: str, path: str = "/imports") -> Response:
    return client.post(f"{GAMES}{path}", files={"file": content.encode()})


def stored(client: TestClient) -> dict[str, str]:
    """Name and price of every game."""
    games = client.get(GAMES, params={"limit": 100}).json()["games"]
    return {game["name"]: game["price"] for game in games}


def test_a_file_is_checked_and_nothing_is_stored(client: TestClient) -> None:
    answer = send(client, "name,price\nCatan,1\nChess,free\n", "/imports/check")
    errors = ["line 3: price: Input should be a valid decimal"]
    assert (answer.status_code, answer.json()) == (200, {"valid": 1, "errors": errors})
    assert stored(client) == {}


def test_a_file_is_taken_with_its_report_and_stored_soon_after(client: TestClient) -> None:
    answer = send(client, "name,price\nCatan,49.90\nChess,free\n")
    errors = ["line 3: price: Input should be a valid decimal"]
    assert (answer.status_code, answer.json()) == (202, {"valid": 1, "errors": errors})
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


@pytest.mark.parametrize(
    ("rows", "reason"),
    [("", "it has no rows"), ("Catan,-1\n", "line 2: price: Input should be greater than 0")],
)
def test_a_file_without_a_game_is_a_problem_and_nothing_is_queued(
    rows: str, reason: str, app: FastAPI, client: TestClient
) -> None:
    answer = send(client, f"name,price\n{rows}")
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"] == f"The file holds no game: {reason}."
    assert len(runtime_of(app).get(ShopResources).imports) == 0


@pytest.fixture
def small(settings: Any) -> FastAPI:
    """A service with room for one file beside the one that is being stored."""
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
    answers = [send(held, f"name,price\ngame {number},1\n") for number in range(4)]
    refused = [answer for answer in answers if answer.status_code == 503]
    assert {answer.status_code for answer in answers} == {202, 503}
    assert {answer.headers["retry-after"] for answer in refused} == {"1"}
    assert len(refused) in {2, 3}
    assert len(runtime_of(small).get(ShopResources).imports) == 1


# Storing.


def games(numbers: range, price: int = 1) -> list[GameIn]:
    return [GameIn(name=f"game {number}", price=Decimal(price)) for number in numbers]


async def prices(database: Database) -> dict[str, int]:
    async with database.reading() as session:
        rows = await session.execute(text("SELECT name, price FROM games"))
        return {row.name: int(row.price) for row in rows}


@pytest.mark.anyio
async def test_two_imports_of_the_same_games_in_opposite_order_both_succeed(
    database: Database,
) -> None:
    numbers = range(imports.ROWS_PER_TRANSACTION)
    for _ in range(3):
        await asyncio.gather(
            imports.store(database, games(numbers)),
            imports.store(database, games(numbers[::-1])),
        )
    assert len(await prices(database)) == len(numbers)


@pytest.mark.anyio
async def test_of_one_name_the_last_row_wins(database: Database) -> None:
    await imports.store(database, [*games(range(3)), *games(range(2), 2), *games(range(1), 3)])
    assert await prices(database) == {"game 0": 3, "game 1": 2, "game 2": 1}


class Restarting(Database):
    """A database that is away for the first transactions."""

    def __init__(self, real: Database, *, away: int) -> None:
        self._real, self.away = real, away

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        if self.away:
            self.away -= 1
            raise DatabaseUnavailable
        async with self._real.transaction() as session:
            yield session


@pytest.mark.anyio
async def test_an_import_waits_for_a_database_that_is_away(database: Database) -> None:
    restarting = Restarting(database, away=3)
    with stamina.set_testing(True, attempts=100, cap=True):
        await imports.store(restarting, games(range(3)))
    assert restarting.away == 0
    assert len(await prices(database)) == 3


@pytest.mark.anyio
async def test_an_import_waits_for_a_table_that_is_locked(
    database: Database, database_settings: DatabaseSettings
) -> None:
    impatient = database_settings.model_copy(update={"statement_timeout_ms": 100})
    async with open_database(impatient) as worker:
        async with database.transaction() as session:
            await session.execute(text("LOCK TABLE games IN EXCLUSIVE MODE"))
            storing = asyncio.create_task(imports.store(worker, games(range(3))))
            # Several times as long as a statement may take.
            await asyncio.sleep(0.5)
            assert not storing.done()
        await storing
    assert len(await prices(database)) == 3


@pytest.mark.anyio
async def test_an_import_fails_when_the_database_stays_away(database: Database) -> None:
    with stamina.set_testing(True, attempts=3, cap=True), pytest.raises(DatabaseUnavailable):
        await imports.store(Restarting(database, away=3), games(range(3)))
    assert await prices(database) == {}


@pytest.mark.anyio
async def test_an_import_is_stored_in_short_transactions(database: Database) -> None:
    too_dear = GameIn.model_construct(name="dear", price=Decimal(-1), in_stock=True)
    size = imports.ROWS_PER_TRANSACTION
    with pytest.raises(Exception, match="ck_games_price_positive"):
        await imports.store(database, [*games(range(size + 1)), too_dear])
    # The first transaction is over when the second one fails.
    assert len(await prices(database)) == size
    assert database.connections_in_use == 0
