"""The services that the shop calls, the assistant and the listener: well, slow, broken or away."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import ValidationError
from structlog.testing import capture_logs
from structlog.typing import EventDict

from app.features.shop import announcements
from app.features.shop.advice import RemoteAssistant, events
from app.features.shop.schemas import GameOut
from app.features.shop.settings import Settings as ShopSettings
from app.main import create_app
from slipway_kit.client import HttpClient, HttpClientSettings
from slipway_kit.db import Database
from slipway_kit.service import runtime_of
from slipway_kit.testing import Upstream, asgi, soon

pytestmark = pytest.mark.anyio

GAMES = "/api/v1/games"
ADVICE = f"{GAMES}/1/advice"
CATAN = {"id": 1, "name": "Catan", "price": "49.90", "in_stock": True}
AWAY = "http://127.0.0.1:1/"
Open = Callable[..., AbstractAsyncContextManager[tuple[FastAPI, httpx2.AsyncClient]]]


@pytest.fixture
def opened(settings: Any) -> Open:
    """Start a service that calls a URL; give it and a client of it, which are in no hurry."""

    @asynccontextmanager
    async def open_service(
        *, read_seconds: float = 30, total_seconds: float = 30, **urls: str
    ) -> AsyncIterator[tuple[FastAPI, httpx2.AsyncClient]]:
        client = HttpClientSettings(
            read_timeout_seconds=read_seconds, total_timeout_seconds=total_seconds
        )
        shop = ShopSettings.model_validate(urls)
        app = create_app(settings.model_copy(update={"features": (shop,), "http_client": client}))
        transport = httpx2.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx2.AsyncClient(transport=transport, base_url="http://service") as api,
        ):
            yield app, api

    return open_service


async def add_game(api: httpx2.AsyncClient) -> None:
    answer = await api.post(GAMES, json={"name": "Catan", "price": "49.90"})
    assert answer.status_code == 201


@pytest.mark.parametrize("url", ["", "assistant", "ftp://assistant", "http://"])
def test_an_address_that_cannot_be_called_stops_the_start(url: str) -> None:
    with pytest.raises(ValidationError, match="assistant_url"):
        ShopSettings.model_validate({"assistant_url": url})


async def test_advice_of_another_service_is_relayed(opened: Open, upstream: Upstream) -> None:
    async with opened(assistant_url=f"{upstream.url}/ok") as (_, api):
        await add_game(api)
        told = await api.get(ADVICE)
    assert json.loads(upstream.bodies[0]) == CATAN
    assert told.text == 'data: {"text":"ok"}\n\nevent: done\ndata: {"pieces":1}\n\n'


async def test_an_assistant_may_think_for_longer_than_other_services(
    opened: Open, upstream: Upstream
) -> None:
    upstream.go_on.clear()
    async with opened(assistant_url=f"{upstream.url}/ok", read_seconds=0.1) as (_, api):
        await add_game(api)
        # Others may be silent for 0.1 seconds.
        asyncio.get_running_loop().call_later(0.3, upstream.go_on.set)
        assert (await api.get(ADVICE)).status_code == 200


async def test_an_assistant_that_dies_midway_is_told_by_an_event(
    opened: Open, upstream: Upstream
) -> None:
    async with opened(assistant_url=f"{upstream.url}/half") as (_, api):
        await add_game(api)
        told = await api.get(ADVICE)
    assert told.status_code == 200
    said, end, _ = told.text.split("\n\n")
    assert said == 'data: {"text":"half"}'
    assert end.startswith('event: error\ndata: {"detail":"')


@pytest.mark.parametrize(
    ("path", "status"),
    [("broken", 503), ("silent", 504), ("garbage", 503), ("reset", 503), (None, 503)],
)
async def test_an_assistant_that_fails_at_once_is_a_problem(
    path: str | None, status: int, opened: Open, upstream: Upstream
) -> None:
    upstream.statuses["/broken"] = [500]
    seconds = 0.5 if path == "silent" else 30
    url = f"{upstream.url}/{path}" if path else AWAY
    async with opened(assistant_url=url, total_seconds=seconds) as (_, api):
        await add_game(api)
        told = await api.get(ADVICE)
    assert told.status_code == status
    assert told.headers["content-type"] == "application/problem+json"


async def test_an_assistant_that_never_ends_is_stopped(opened: Open, upstream: Upstream) -> None:
    async with opened() as (app, _):
        assistant = RemoteAssistant(runtime_of(app).get(HttpClient), f"{upstream.url}/endless")
        told = events(assistant, GameOut.model_validate(CATAN), max_seconds=0.1)
        assert [event async for event in told][-1] == (
            'event: error\ndata: {"detail":"The assistant took too long."}\n\n'
        )
        async with asyncio.timeout(30):
            await upstream.closed.wait()


async def test_a_reader_that_stalls_keeps_the_call_to_the_assistant_no_longer(
    opened: Open, upstream: Upstream
) -> None:
    async with opened() as (app, _):
        assistant = RemoteAssistant(runtime_of(app).get(HttpClient), f"{upstream.url}/endless")
        told = events(assistant, GameOut.model_validate(CATAN), max_seconds=1)
        await anext(told)
        async with asyncio.timeout(30):
            await upstream.closed.wait()
        assert "took too long" in [event async for event in told][-1]


async def test_who_leaves_the_advice_ends_the_call_and_leaves_nothing_behind(
    opened: Open, upstream: Upstream
) -> None:
    async with opened(assistant_url=f"{upstream.url}/endless") as (app, api):
        await add_game(api)
        tasks = len(asyncio.all_tasks())
        for _ in range(3):
            assert len(await asgi.read_some(app, ADVICE, messages=2)) >= 2
            async with asyncio.timeout(30):
                await upstream.closed.wait()
            upstream.closed.clear()
        await soon(lambda: not upstream.open and len(asyncio.all_tasks()) <= tasks)
        assert runtime_of(app).get(Database).connections_in_use == 0


def test_a_new_game_is_announced_after_its_answer(
    client: TestClient, events: list[EventDict]
) -> None:
    for _ in range(2):
        client.post(GAMES, json={"name": "Catan", "price": 1})
    announced = [event for event in events if event["event"] == "game announced"]
    assert [(event["game_id"], event["name"]) for event in announced] == [(1, "Catan")]


def test_an_announcement_that_fails_is_logged_and_the_game_stays(
    client: TestClient, events: list[EventDict], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def announce(*_: object) -> None:
        raise ConnectionError

    monkeypatch.setattr(announcements, "announce", announce)
    client.post(GAMES, json={"name": "Catan", "price": 1})
    assert client.get(f"{GAMES}/1").status_code == 200
    [failure] = [event for event in events if event["event"] == "task failed"]
    assert "announce" in failure["task"]


@pytest.mark.parametrize("late", [False, True])
async def test_an_announcement_under_way_is_finished_before_the_service_leaves(
    late: bool, opened: Open, upstream: Upstream
) -> None:
    if late:
        upstream.go_on.clear()
    with ExitStack() as logs:
        async with opened(announce_url=f"{upstream.url}/ok") as (_, api):
            logged = logs.enter_context(capture_logs())
            await add_game(api)
            asyncio.get_running_loop().call_later(0.05, upstream.go_on.set)
    assert [json.loads(body) for body in upstream.bodies] == [CATAN]
    assert "game announced" in {event["event"] for event in logged}
    assert [event["event"] for event in logged if event["log_level"] != "info"] == []


@pytest.mark.parametrize("path", ["broken", "silent", "garbage", "reset", None])
async def test_a_listener_that_is_not_well_misses_the_game_and_nobody_else_notices(
    path: str | None, opened: Open, upstream: Upstream
) -> None:
    upstream.statuses["/broken"] = [500]
    url = f"{upstream.url}/{path}" if path else AWAY
    with ExitStack() as logs:
        seconds = 0.5 if path == "silent" else 30
        async with opened(announce_url=url, total_seconds=seconds) as (_, api):
            logged = logs.enter_context(capture_logs())
            await add_game(api)
            assert (await api.get(f"{GAMES}/1")).json() == CATAN
    [lost] = [event for event in logged if event["event"] == "announcement lost"]
    assert lost["game_id"] == 1
    assert [event for event in logged if event["log_level"] == "error"] == []
    # Once: whoever heard it may not have been able to say so.
    assert len(upstream.bodies) == (path is not None)
