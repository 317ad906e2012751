"""What the shop is asked: reads, writes, streams and the scans of tills.

A game that somebody writes is read by nobody at that time, so every read must show exactly what
was acknowledged last.
"""

import asyncio
import json
import random
import secrets
import time
from collections.abc import Callable
from typing import Any

from kit.tests.e2e.load.traffic import Ask, Question, Request
from kit.tests.e2e.load.wire import Answer, Failure

_GAMES = "/api/v1/games"
_FIRST = 50
# A catalogue that grows with the load would make each export take longer than the one before.
_MOST = 300
# How long an import may take until it is stored.
_IMPORT_SECONDS = 10.0
_PAUSE_SECONDS = 0.5
_BOUNDARY = "parts"
# To find a game that is free; most are.
_TRIES = 1000
Settle = Callable[[Answer | None], str | None]


class Shop:
    """Remembers what was acknowledged."""

    socket = f"{_GAMES}/till"

    def __init__(self, *, seed: int = 1) -> None:
        self._random = random.Random(seed)
        self._run, self._number = secrets.token_hex(4), 0
        # The last acknowledged state of each game; None once its removal was.
        self._games: dict[int, dict[str, Any] | None] = {}
        self._living: list[int] = []
        self._imported: dict[str, str] = {}
        self._writes = 0
        # Games that are read or written just now, and those that nobody knows the state of.
        self._readers: dict[int, int] = {}
        self._written: set[int] = set()
        self._unknown: dict[int, list[dict[str, Any] | None]] = {}
        self._mixture: list[tuple[int, Callable[[], Request]]] = [
            (25, self._get),
            (15, self._list),
            (14, self._stock),
            (5, self._summary),
            (13, self._add_or_remove),
            (15, self._replace),
            (1, self._import),
            (11, self._advice),
            (1, self._export),
        ]

    async def prepare(self, ask: Ask) -> None:
        """Add some games."""
        for _ in range(_FIRST):
            await ask(self._add())

    def next(self) -> Request:
        """Return a request of any kind."""
        weights, makers = zip(*self._mixture, strict=True)
        (make,) = self._random.choices(makers, weights)
        try:
            request: Request = make()
        except LookupError:
            # A long outage leaves no game whose state is known.
            return self._add()
        return request

    def read(self) -> Request:
        """Get a game."""
        try:
            return self._get()
        except LookupError:
            return Request("read", "GET", f"{_GAMES}?limit=20", settle=_json)

    def question(self) -> Question:
        """Scan a game."""
        try:
            game_id, known = self._borrow()
        except LookupError:
            return Question(json.dumps({"id": 1}), lambda _: None)

        def settle(answer: str | None) -> str | None:
            if answer is None:
                self._give_back(game_id)
                return None
            told = json.loads(answer)
            if set(told) == {"error"}:
                raise Failure("error answer", told["error"])
            if told != _stock_of(known):
                return f"{known} was acknowledged, this was told: {answer}"
            self._give_back(game_id)
            return None

        return Question(json.dumps({"id": game_id}), settle)

    def _get(self) -> Request:
        return self._reading("read", "", lambda known, told: json.loads(told) == known)

    def _stock(self) -> Request:
        return self._reading(
            "read", "/stock", lambda known, told: json.loads(told) == _stock_of(known)
        )

    def _advice(self) -> Request:
        return self._reading(
            "stream",
            "/advice",
            lambda known, told: b"event: done\n" in told and known["price"].encode() in told,
        )

    def _reading(
        self, kind: str, of: str, fits: Callable[[dict[str, Any], bytes], bool]
    ) -> Request:
        game_id, known = self._borrow()

        def settle(answer: Answer | None) -> str | None:
            if answer is not None and not fits(known, answer.body):
                return f"{known} was acknowledged, this was read"
            self._give_back(game_id)
            return None

        return Request(kind, "GET", f"{_GAMES}/{game_id}{of}", settle=settle)

    def _list(self) -> Request:
        after = self._random.choice(self._living) - 1
        return Request("read", "GET", f"{_GAMES}?after={after}&limit=20", settle=_json)

    def _summary(self) -> Request:
        return Request("read", "GET", f"{_GAMES}/summary", settle=_json)

    def _export(self) -> Request:
        return Request("stream", "GET", f"{_GAMES}/export", settle=_lines)

    def _add_or_remove(self) -> Request:
        return self._add() if len(self._living) < _MOST else self._remove()

    def _add(self) -> Request:
        new = self._new()

        def settle(answer: Answer | None) -> str | None:
            if answer is None:
                return None
            added = json.loads(answer.body)
            if added != {"id": added["id"], **new}:
                return f"{new} was sent"
            self._acknowledged(added["id"], added)
            return None

        return self._writing("POST", "", new, 201, settle)

    def _replace(self) -> Request:
        game_id = self._reserve()
        if game_id is None:
            return self._add()
        new = self._new()

        def settle(answer: Answer | None) -> str | None:
            if answer is None:
                self._lost(game_id, {"id": game_id, **new})
                return None
            if json.loads(answer.body) != {"id": game_id, **new}:
                return f"{new} was sent"
            self._acknowledged(game_id, {"id": game_id, **new})
            return None

        return self._writing("PUT", f"/{game_id}", new, 200, settle)

    def _remove(self) -> Request:
        game_id = self._reserve()
        if game_id is None:
            return self._add()

        def settle(answer: Answer | None) -> str | None:
            if answer is None:
                self._lost(game_id, None)
            else:
                self._acknowledged(game_id, None)
            return None

        return self._writing("DELETE", f"/{game_id}", None, 204, settle)

    def _import(self) -> Request:
        new = self._new()
        part = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="games.csv"'
        rows = f"name,price\n{new['name']},{new['price']}\n"
        body = f"{part}\r\n\r\n{rows}\r\n--{_BOUNDARY}--\r\n".encode()

        def settle(answer: Answer | None) -> str | None:
            if answer is not None:
                self._imported[new["name"]] = new["price"]
            return None

        form = f"multipart/form-data; boundary={_BOUNDARY}"
        return Request("import", "POST", f"{_GAMES}/imports", body, form, 202, settle)

    def _writing(
        self, method: str, path: str, new: dict[str, Any] | None, status: int, settle: Settle
    ) -> Request:
        body = b"" if new is None else json.dumps(new).encode()
        kind = "" if new is None else "application/json"
        return Request("write", method, f"{_GAMES}{path}", body, kind, status, settle)

    def _new(self) -> dict[str, Any]:
        self._number += 1
        price = f"{self._random.randint(1, 9999)}.{self._random.randint(0, 99):02}"
        return {"name": f"{self._run} {self._number}", "price": price, "in_stock": True}

    def _borrow(self) -> tuple[int, dict[str, Any]]:
        """Choose a game that nobody writes; until it is given back nobody does."""
        chosen = self._choose(lambda game_id: game_id not in self._written)
        if chosen is None:
            raise LookupError("every game is being written")
        game_id, known = chosen
        self._readers[game_id] = self._readers.get(game_id, 0) + 1
        return game_id, known

    def _give_back(self, game_id: int) -> None:
        self._readers[game_id] -= 1

    def _reserve(self) -> int | None:
        """Choose a game that nobody reads or writes, if there is one."""
        chosen = self._choose(
            lambda game_id: game_id not in self._written and not self._readers.get(game_id)
        )
        if chosen is None:
            return None
        self._written.add(chosen[0])
        return chosen[0]

    def _choose(self, fits: Callable[[int], bool]) -> tuple[int, dict[str, Any]] | None:
        for _ in range(_TRIES):
            game_id = self._random.choice(self._living)
            game = self._games[game_id]
            if game is not None and fits(game_id):
                return game_id, game
        return None

    def _acknowledged(self, game_id: int, game: dict[str, Any] | None) -> None:
        self._writes += 1
        if game is None:
            self._living.remove(game_id)
        elif game_id not in self._games:
            self._living.append(game_id)
        self._games[game_id] = game
        self._written.discard(game_id)

    def _lost(self, game_id: int, game: dict[str, Any] | None) -> None:
        """Leave a game alone from now on, as it may be the old or the new one."""
        self._unknown[game_id] = [self._games[game_id], game]
        self._living.remove(game_id)
        self._written.discard(game_id)

    async def read_back(self, ask: Ask) -> dict[str, Any]:
        """Compare every game with what was acknowledged last, and find every import."""
        give_up = time.monotonic() + _IMPORT_SECONDS
        while True:
            found = await self._every(ask)
            prices = {game["name"]: game["price"] for game in found.values()}
            lost = [name for name in self._imported.items() if name not in prices.items()]
            if not lost or time.monotonic() > give_up:
                break
            await asyncio.sleep(_PAUSE_SECONDS)
        missing = [
            {"acknowledged": known, "found": found.get(game_id)}
            for game_id, known in self._games.items()
            if found.get(game_id) not in self._unknown.get(game_id, [known])
        ]
        return {
            "acknowledged": self._writes,
            "games": len(self._games),
            "read_back": len(self._games) - len(missing),
            "missing": missing,
            "unknown": len(self._unknown),
            "imports": {"acknowledged": len(self._imported), "missing": lost},
        }

    async def _every(self, ask: Ask) -> dict[int, dict[str, Any]]:
        found: dict[int, dict[str, Any]] = {}
        after: int | None = min(self._games) - 1
        while after is not None:
            page = await ask(Request("read", "GET", f"{_GAMES}?after={after}&limit=100"))
            told = json.loads(page.body)
            found |= {game["id"]: game for game in told["games"]}
            after = told["next"]
        return found


def _stock_of(game: dict[str, Any]) -> dict[str, Any]:
    return {"id": game["id"], "price": game["price"], "in_stock": game["in_stock"]}


def _json(answer: Answer | None) -> str | None:
    if answer is not None and not json.loads(answer.body):
        return "nothing was read"
    return None


def _lines(answer: Answer | None) -> str | None:
    if answer is not None:
        if not answer.body.endswith(b"\n"):
            return "the last line is not whole"
        for line in answer.body.splitlines():
            json.loads(line)
    return None
