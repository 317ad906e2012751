"""The border: the size of a body, the deadline of a request, and which browsers may call."""

import asyncio
from http import HTTPStatus

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import problem_response
from .server import ServerSettings


def install(app: FastAPI, server: ServerSettings) -> None:
    """Wrap the routes."""
    app.add_middleware(BodyLimit, max_bytes=server.max_body_bytes)
    app.add_middleware(Deadline, seconds=server.request_timeout_seconds)
    if server.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=server.cors_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["X-Request-ID", "Location"],
        )


class BodyLimit:
    """Answers 413 to a body over the limit: at once when it says so, else when it has come so far.

    FastAPI's own limit answers in plain text, outside of every middleware.
    """

    def __init__(self, app: ASGIApp, *, max_bytes: int) -> None:
        self._app, self._max_bytes = app, max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request; messages of a WebSocket are the server's to limit."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = Headers(scope=scope).get("content-length", "")
        if length.isdecimal() and int(length) > self._max_bytes:
            response = problem_response(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, self._detail, scope)
            await response(scope, receive, send)
            return
        received = 0

        async def receive_some() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, self._detail)
            return message

        await self._app(scope, receive_some, send)

    @property
    def _detail(self) -> str:
        return f"The body is larger than {self._max_bytes} bytes."


class Deadline:
    """Answers 504 when a request has no first byte in time; a stream may then last.

    The request is cancelled, but a plain `def` route goes on in its thread: the client has its
    answer, the thread is not free before the route returns.
    """

    def __init__(self, app: ASGIApp, *, seconds: float) -> None:
        self._app, self._seconds = app, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request; a WebSocket has no deadline."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        await _Timed(scope, receive, send).run(self._app, self._seconds)


class _Timed:
    """One request and its deadline."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self._started = False
        self._late: asyncio.Task[None] | None = None

    async def run(self, app: ASGIApp, seconds: float) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 (a coroutine that runs has a task)
        timer = asyncio.get_running_loop().call_later(seconds, self._expire, task)
        try:
            await app(self._scope, self._receive, self._pass)
        except asyncio.CancelledError:
            if self._late is None or task.uncancel() > 0:
                raise
        finally:
            timer.cancel()
            if self._late is not None:
                await self._late

    async def _pass(self, message: Message) -> None:
        if self._late is None:
            self._started = True
            await self._send(message)

    def _expire(self, task: asyncio.Task[None]) -> None:
        if not self._started:
            self._late = asyncio.create_task(self._answer())
            task.cancel()

    async def _answer(self) -> None:
        response = problem_response(504, "The request took too long.", self._scope)
        await response(self._scope, self._receive, self._send)
