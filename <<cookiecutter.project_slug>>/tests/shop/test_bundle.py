"""The bundle: arithmetic in the process pool, against every choice that there is."""

import subprocess
import sys
from decimal import Decimal
from itertools import combinations
from typing import NoReturn, cast

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from app.features.shop.bundle import Offer, cents, choose
from slipway_kit.concurrency import Offload
from slipway_kit.db import Database
from slipway_kit.errors import Overloaded
from slipway_kit.service import runtime_of

GAMES = "/api/v1/games"
BUNDLE = f"{GAMES}/bundle"


def quality(prices: list[int]) -> tuple[int, int]:
    """What is to be greatest: the money spent, then the number of games."""
    return sum(prices), len(prices)


def best_of_all(prices: list[int], budget: int) -> tuple[int, int]:
    """Try every choice there is."""
    choices = (
        list(choice) for size in range(len(prices) + 1) for choice in combinations(prices, size)
    )
    return max(quality(choice) for choice in choices if sum(choice) <= budget)


@given(st.lists(st.integers(1, 60), max_size=9), st.integers(0, 200))
def test_no_other_choice_is_better(prices: list[int], budget: int) -> None:
    chosen = choose([Offer(number, price) for number, price in enumerate(prices)], budget)
    assert len(set(chosen)) == len(chosen)
    assert quality([prices[number] for number in chosen]) == best_of_all(prices, budget)


@pytest.mark.parametrize(
    ("prices", "budget", "chosen"),
    [
        ([], 100, []),
        ([101], 100, []),
        ([100], 100, [0]),
        ([60, 50, 50], 100, [1, 2]),
        ([100, 50, 50], 100, [1, 2]),
        ([50, 50, 50], 100, [0, 1]),
    ],
)
def test_a_bundle_spends_most_then_holds_most(
    prices: list[int], budget: int, chosen: list[int]
) -> None:
    offers = [Offer(number, price) for number, price in enumerate(prices)]
    assert choose(offers, budget) == chosen


@pytest.mark.parametrize(("amount", "expected"), [("0.01", 1), ("500", 50_000), ("19.90", 1990)])
def test_cents_are_exact(amount: str, expected: int) -> None:
    assert cents(Decimal(amount)) == expected


def test_a_process_of_the_pool_loads_no_library_for_it() -> None:
    program = "import sys, app.features.shop.bundle; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", program], text=True).split()
    assert not {"pydantic", "fastapi", "sqlalchemy"} & set(loaded)


def add(client: TestClient, name: str, price: str, *, in_stock: bool = True) -> None:
    game = {"name": name, "price": price, "in_stock": in_stock}
    assert client.post(GAMES, json=game).status_code == 201


def test_the_bundle_spends_the_budget_as_far_as_games_in_stock_allow(client: TestClient) -> None:
    add(client, "Catan", "49.90")
    add(client, "Chess", "12.00")
    add(client, "Go", "38.00")
    add(client, "Risk", "50.00", in_stock=False)
    answer = client.get(BUNDLE, params={"budget": "50.00"})
    assert answer.status_code == 200
    assert answer.json()["total"] == "50.00"
    assert sorted(game["name"] for game in answer.json()["games"]) == ["Chess", "Go"]
    nothing = client.get(BUNDLE, params={"budget": "0.01"})
    assert (nothing.status_code, nothing.json()) == (200, {"games": [], "total": "0.00"})


def test_a_budget_out_of_bounds_is_refused(client: TestClient) -> None:
    for budget in ("", "0", "-1", "500.01", "1e9", "0.001", "NaN", "x", "9" * 999):
        assert client.get(BUNDLE, params={"budget": budget}).status_code == 422, budget


class BusyPool:
    """Has no process free, and looks at the connections meanwhile."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.connections_in_use: int | None = None

    async def compute(self, *_: object) -> NoReturn:
        self.connections_in_use = self._database.connections_in_use
        raise Overloaded("Too many wait.")


def test_a_busy_process_pool_is_a_problem_and_no_connection_waits_for_it(
    app: FastAPI, client: TestClient
) -> None:
    runtime = runtime_of(app)
    busy = BusyPool(runtime.get(Database))
    runtime.add(cast("Offload", busy), Offload)
    answer = client.get(BUNDLE, params={"budget": "10"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert busy.connections_in_use == 0
