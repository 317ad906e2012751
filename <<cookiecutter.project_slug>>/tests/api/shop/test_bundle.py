from dataclasses import replace
from typing import NoReturn, cast

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from slipway_kit.concurrency.offload import Offload
from slipway_kit.db.sessions import Database
from slipway_kit.errors import Overloaded
from slipway_kit.service.resources import Resources

GAMES = "/api/v1/games"
BUNDLE = f"{GAMES}/bundle"


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


def test_where_nothing_fits_the_bundle_is_empty(client: TestClient) -> None:
    add(client, "Catan", "49.90")
    answer = client.get(BUNDLE, params={"budget": "0.01"})
    assert (answer.status_code, answer.json()) == (200, {"games": [], "total": "0.00"})


@pytest.mark.parametrize("budget", ["", "0", "-1", "500.01", "1e9", "0.001", "NaN", "x", "9" * 999])
def test_a_budget_out_of_bounds_is_refused(budget: str, client: TestClient) -> None:
    assert client.get(BUNDLE, params={"budget": budget}).status_code == 422


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
    resources: Resources = app.state.resources
    busy = BusyPool(resources.database)
    app.state.resources = replace(resources, offload=cast("Offload", busy))
    answer = client.get(BUNDLE, params={"budget": "10"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert busy.connections_in_use == 0
