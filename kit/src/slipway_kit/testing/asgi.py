"""Requests without a server, for what a client cannot do through one."""

import asyncio
from typing import Any

from fastapi import FastAPI
from starlette.types import Message


def scope(path: str, *, spec_version: str = "2.3") -> dict[str, Any]:
    """Return the scope of a GET; servers before ASGI 2.4 tell of a disconnect by `receive` only."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": spec_version},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [],
        "server": ("service", 80),
    }


def websocket_scope(path: str) -> dict[str, Any]:
    """Return the scope of a WebSocket."""
    return {**scope(path), "type": "websocket", "scheme": "ws", "subprotocols": []}


async def read_some(app: FastAPI, path: str, *, messages: int = 3) -> list[bytes]:
    """Ask for a stream, leave after some messages of it, and return them."""
    bodies: list[bytes] = []
    enough = asyncio.Event()

    async def send(message: Message) -> None:
        bodies.extend([message["body"]] if message["type"] == "http.response.body" else [])
        if len(bodies) == messages:
            enough.set()

    async def receive() -> Message:
        await enough.wait()
        return {"type": "http.disconnect"}

    await app(scope(path), receive, send)
    return bodies
