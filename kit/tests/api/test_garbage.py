"""What a request has made is gone when it is over, and waits for no garbage collector.

An object in a ring of references is found by the collector only, which has then to look through
all that requests have made: it took a tenth of the CPU of a small answer.
"""

import asyncio
import gc
from collections.abc import AsyncIterator

import pytest
from fastapi import APIRouter, FastAPI
from pydantic import SecretStr
from starlette.types import Message

from app.main import create_app
from app.settings import Settings
from kit.tests.support.tracing import untouched_tracing
from slipway_kit.config.server import ServerSettings
from slipway_kit.db.settings import DatabaseSettings
from slipway_kit.errors import NotFound
from slipway_kit.testing import asgi
from slipway_kit.tracing.settings import TracingSettings

pytestmark = pytest.mark.anyio
REQUESTS = 50
router = APIRouter()


@router.get("/things/{name}")
async def thing(name: str) -> dict[str, str]:
    if name == "none":
        raise NotFound("There is no such thing.")
    return {"name": name}


@pytest.fixture(params=[None, 0.0, 1.0], ids=["no traces", "not recorded", "recorded"])
async def app(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[FastAPI]:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "60000")
    tracing = TracingSettings()
    if request.param is not None:
        tracing = TracingSettings(
            exporter_otlp_endpoint="http://127.0.0.1:9",
            traces_sampler="parentbased_traceidratio",
            traces_sampler_arg=request.param,
        )
    settings = Settings(
        server=ServerSettings(metrics_port=0, shutdown_seconds=5),
        database=DatabaseSettings(url=SecretStr("postgresql://u:p@127.0.0.1:1/x")),
        tracing=tracing,
    )
    with untouched_tracing():
        made = create_app(settings)
        made.include_router(router)
        async with made.router.lifespan_context(made):
            yield made


async def ask(app: FastAPI, path: str) -> int:
    statuses: list[int] = []

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    # A server serves each in a task of its own, and so with a context of its own.
    await asyncio.create_task(app(asgi.scope(path), receive, send))
    return statuses[0]


@pytest.mark.parametrize(
    ("path", "status"), [("/things/a", 200), ("/things/none", 404), ("/no/such/path", 404)]
)
async def test_a_request_leaves_nothing_for_the_garbage_collector(
    app: FastAPI, path: str, status: int
) -> None:
    for _ in range(5):
        assert await ask(app, path) == status
    gc.collect()
    gc.disable()
    try:
        for _ in range(REQUESTS):
            await ask(app, path)
        found = gc.collect()
    finally:
        gc.enable()
    assert found < REQUESTS
