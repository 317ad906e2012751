"""The traffic of the load client against a shop in memory, which can be made to forget."""

import itertools
import json
import random
import re
from collections.abc import Callable
from typing import Any

import pytest

from kit.tests.e2e.load.traffic import Request
from kit.tests.e2e.load.wire import Answer, Failure
from kit.tests.e2e.shop.traffic import Shop

pytestmark = pytest.mark.anyio


class Catalogue:
    """Answers as the shop does."""

    def __init__(self) -> None:
        self.games: dict[int, dict[str, Any]] = {}
        self.imported: list[int] = []
        self.ids = itertools.count(1)

    async def ask(self, request: Request) -> Answer:
        answer = self.answer(request)
        request.judge(answer)
        return answer

    def answer(self, request: Request) -> Answer:
        body = self._body(request)
        return Answer(request.status, {}, body, closing=False)

    def _body(self, request: Request) -> bytes:
        path, _, query = request.target.removeprefix("/api/v1/games").partition("?")
        number, of = (re.findall(r"\d+", path) or ["0"])[0], path.rpartition("/")[2]
        if request.method == "GET":
            return self._read(int(number), of, query)
        if of == "imports":
            name, _, price = request.body.split(b"price\n")[1].split(b"\n")[0].partition(b",")
            self.imported.append(next(self.ids))
            self._put(self.imported[-1], {"name": name.decode(), "price": price.decode()})
            return b"{}"
        if request.method == "DELETE":
            del self.games[int(number)]
            return b""
        return self._put(int(number) or next(self.ids), json.loads(request.body))

    def _put(self, game_id: int, new: dict[str, Any]) -> bytes:
        self.games[game_id] = {"id": game_id, "in_stock": True, **new}
        return json.dumps(self.games[game_id]).encode()

    def _read(self, game_id: int, of: str, query: str) -> bytes:
        game = self.games.get(game_id, {})
        if of == "stock":
            return json.dumps({key: game[key] for key in ("id", "price", "in_stock")}).encode()
        if of == "advice":
            return f"data: {game['price']}\n\nevent: done\ndata: 1\n\n".encode()
        if of == "export":
            return b"{}\n"
        if game:
            return json.dumps(game).encode()
        after = int((re.findall(r"after=(\d+)", query) or ["0"])[0])
        found = sorted(each for each in self.games if each > after)
        page = {"games": [self.games[each] for each in found[:20]]}
        return json.dumps({**page, "next": found[19] if len(found) > 20 else None}).encode()


@pytest.fixture
def catalogue() -> Catalogue:
    return Catalogue()


async def used(catalogue: Catalogue, times: int = 500) -> Shop:
    """A shop that has been asked often."""
    shop = Shop()
    await shop.prepare(catalogue.ask)
    for _ in range(times):
        await catalogue.ask(shop.next())
    return shop


async def test_all_that_was_acknowledged_is_read_back(catalogue: Catalogue) -> None:
    shop = await used(catalogue)
    result = await shop.read_back(catalogue.ask)
    assert result["missing"] == []
    assert result["read_back"] == result["games"] > 50
    assert result["imports"]["acknowledged"] > 0
    assert result["imports"]["missing"] == []


async def test_a_long_load_does_not_make_the_catalogue_long(catalogue: Catalogue) -> None:
    await used(catalogue, 5000)
    assert 290 <= len(catalogue.games.keys() - catalogue.imported) <= 300


def forget(games: dict[int, dict[str, Any]], game_id: int) -> None:
    del games[game_id]


def change(games: dict[int, dict[str, Any]], game_id: int) -> None:
    games[game_id]["price"] = "0.00"


@pytest.mark.parametrize("harm", [forget, change])
async def test_a_write_that_was_lost_is_missing(
    harm: Callable[[dict[int, dict[str, Any]], int], None], catalogue: Catalogue
) -> None:
    shop = await used(catalogue)
    victim = random.choice([*(catalogue.games.keys() - catalogue.imported)])
    harm(catalogue.games, victim)
    result = await shop.read_back(catalogue.ask)
    assert [one["acknowledged"]["id"] for one in result["missing"]] == [victim]


async def test_a_removed_game_that_is_back_is_missing(catalogue: Catalogue) -> None:
    shop = await used(catalogue, 0)
    while (request := shop.next()).method != "DELETE":
        await catalogue.ask(request)
    before = dict(catalogue.games)
    await catalogue.ask(request)
    catalogue.games = before
    result = await shop.read_back(catalogue.ask)
    assert [one["acknowledged"] for one in result["missing"]] == [None]


async def test_an_import_that_was_lost_is_missing(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kit.tests.e2e.shop.traffic._IMPORT_SECONDS", 0)
    shop = await used(catalogue)
    name = catalogue.games.pop(catalogue.imported[0])["name"]
    missing = (await shop.read_back(catalogue.ask))["imports"]["missing"]
    assert [lost[0] for lost in missing] == [name]


async def test_a_write_without_an_answer_may_have_happened_or_not(catalogue: Catalogue) -> None:
    shop = await used(catalogue, 0)
    for happens in (True, False):
        request = next(made for made in iter(shop.next, None) if made.method == "PUT")
        if happens:
            catalogue.answer(request)
        request.settle(None)
    result = await shop.read_back(catalogue.ask)
    assert (result["missing"], result["unknown"]) == ([], 2)


async def test_a_read_that_shows_an_older_price_is_a_wrong_answer(catalogue: Catalogue) -> None:
    shop = await used(catalogue)
    for game in catalogue.games.values():
        game["price"] = "0.00"
    with pytest.raises(Failure) as failure:
        await catalogue.ask(shop.read())
    assert failure.value.kind == "wrong answer"


async def test_a_scan_must_tell_what_was_acknowledged(catalogue: Catalogue) -> None:
    shop = await used(catalogue)
    question = shop.question()
    game = catalogue.games[json.loads(question.text)["id"]]
    told = {key: game[key] for key in ("id", "price", "in_stock")}
    assert question.settle(json.dumps({**told, "price": "0.00"})) is not None
    assert question.settle(json.dumps(told)) is None
    with pytest.raises(Failure) as failure:
        shop.question().judge(json.dumps({"error": "no"}))
    assert failure.value.kind == "error answer"
