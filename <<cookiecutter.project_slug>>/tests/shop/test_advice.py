"""Advice as server-sent events, whatever the assistant does."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from decimal import Decimal

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import text

from app.features.shop.advice import Assistant, AssistantUnavailable, HouseAssistant, events
from app.features.shop.resources import ShopResources
from app.features.shop.schemas import GameOut
from slipway_kit.db import Database
from slipway_kit.http import KEEP_ALIVE
from slipway_kit.service import runtime_of
from slipway_kit.testing import asgi, soon

GAME = GameOut(id=1, name="Catan", price=Decimal("49.90"), in_stock=True)
ADVICE = "/api/v1/games/1/advice"
ERROR = 'event: error\ndata: {"detail":"The assistant is not available; try again soon."}\n\n'


class Said:
    """An assistant that says, waits and fails as it is told to."""

    def __init__(self, *pieces: str | Exception | asyncio.Event) -> None:
        self._pieces = pieces
        self.ask: Callable[[], None] = lambda: None
        self.closed = False

    async def advise(self, game: GameOut) -> AsyncGenerator[str, None]:
        try:
            for piece in self._pieces:
                if isinstance(piece, Exception):
                    raise piece
                if isinstance(piece, asyncio.Event):
                    self.ask()
                    await piece.wait()
                else:
                    yield f"{game.name} {piece}"
        finally:
            await asyncio.sleep(0)  # as one that has a connection to close
            self.closed = True


def employ(app: FastAPI, assistant: Assistant) -> None:
    """Have the running service ask this assistant."""
    runtime = runtime_of(app)
    runtime.add(replace(runtime.get(ShopResources), assistant=assistant))


@pytest.mark.anyio
async def test_each_piece_is_a_message_and_the_end_is_told() -> None:
    assert [event async for event in events(Said("is", "good\n\nevent: done"), GAME)] == [
        'data: {"text":"Catan is"}\n\n',
        'data: {"text":"Catan good\\n\\nevent: done"}\n\n',
        'event: done\ndata: {"pieces":2}\n\n',
    ]


@pytest.mark.anyio
async def test_an_assistant_that_breaks_off_ends_the_events_with_an_error() -> None:
    assistant = Said("is", AssistantUnavailable(), "good")
    told = [event async for event in events(assistant, GAME)]
    assert told == ['data: {"text":"Catan is"}\n\n', ERROR]
    assert assistant.closed


@pytest.mark.anyio
async def test_a_long_thought_is_bridged_by_comments() -> None:
    thought = asyncio.Event()
    told = events(Said(thought, "is", AssistantUnavailable()), GAME, keep_alive_seconds=0.001)
    assert await anext(told) == KEEP_ALIVE
    thought.set()
    rest = [event async for event in told if event != KEEP_ALIVE]
    # The comment was an answer already: what comes after it is told by an event.
    assert rest == ['data: {"text":"Catan is"}\n\n', ERROR]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("in_stock", "ending"), [(True, "it is in stock."), (False, "ask us when it is back.")]
)
async def test_the_house_says_what_it_knows(in_stock: bool, ending: str) -> None:
    game = GAME.model_copy(update={"in_stock": in_stock})
    words = [word async for word in HouseAssistant().advise(game)]
    assert len(words) > 5
    assert "".join(words).strip() == f"Catan is a good choice for 49.90; {ending}"


def test_advice_comes_as_server_sent_events(client: TestClient) -> None:
    assert client.get(ADVICE).status_code == 404
    client.post("/api/v1/games", json={"name": "Catan", "price": "49.90"})
    answer = client.get(ADVICE)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    *messages, end, rest = answer.text.split("\n\n")
    assert messages[0] == 'data: {"text":"Catan "}'
    assert end == f'event: done\ndata: {{"pieces":{len(messages)}}}'
    assert rest == ""


def test_an_assistant_that_is_away_is_a_problem_with_a_time_to_come_back(
    app: FastAPI, client: TestClient
) -> None:
    client.post("/api/v1/games", json={"name": "Catan", "price": "49.90"})
    employ(app, Said(AssistantUnavailable()))
    answer = client.get(ADVICE)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.anyio
async def test_advice_holds_no_connection_and_who_leaves_it_leaves_nothing_behind(
    app: FastAPI,
) -> None:
    async with app.router.lifespan_context(app):
        database = runtime_of(app).get(Database)
        async with database.transaction() as session:
            await session.execute(text("INSERT INTO games (name, price) VALUES ('Catan', 1)"))
        assistant = Said("is", asyncio.Event())
        in_use: list[int] = []
        assistant.ask = lambda: in_use.append(database.connections_in_use)
        employ(app, assistant)
        tasks = asyncio.all_tasks()
        told = await asgi.read_some(app, ADVICE, messages=1)
        assert told == [b'data: {"text":"Catan is"}\n\n']
        await soon(lambda: assistant.closed and asyncio.all_tasks() <= tasks)
        assert in_use == [0]
        assert database.connections_in_use == 0
