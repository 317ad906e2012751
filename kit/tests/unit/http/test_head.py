"""HEAD ends a stream, also one that never waits."""

import asyncio
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.responses import StreamingResponse

from slipway_kit.http.head import serve_head
from slipway_kit.testing.asgi import scope


class Client:
    """A client as servers tell of it: gone when the answer is complete."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.complete = asyncio.Event()

    async def receive(self) -> Any:
        await self.complete.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.sent.append(message)
        if message["type"] == "http.response.body":
            self.complete.set()


@pytest.mark.anyio
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_stream_that_never_waits_ends(method: str) -> None:
    yielded = 0

    async def endless() -> Any:
        nonlocal yielded
        while yielded < 10_000:
            yielded += 1
            yield b"a"

    app, client = FastAPI(), Client()
    app.add_api_route("/", lambda: StreamingResponse(endless()), methods=[method])
    asked = {**scope("/"), "method": "HEAD", "app": app}
    await serve_head(app, asked, client.receive, client.send)
    assert [message.get("body") for message in client.sent] == [None, b""]
    assert yielded < 100
