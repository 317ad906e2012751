"""The border: the size of a body, the deadline of a request, and which browsers may call."""

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from slipway_kit import request_context
from slipway_kit.clock import now
from slipway_kit.config.server import ServerSettings
from slipway_kit.http.problem_details import problem_response
from slipway_kit.overload.route_shedding import RouteShedding
from slipway_kit.runtime import runtime_of

_TIMEOUT = request_context.TIMEOUT_HEADER.lower().encode()
_OF_BODIES = frozenset({b"content-length", b"transfer-encoding"})


def install(app: FastAPI, server: ServerSettings) -> None:
    """Wrap the routes."""
    app.add_middleware(
        RequestLimits,
        max_bytes=server.max_body_bytes,
        seconds=server.request_timeout_seconds,
        shedding=runtime_of(app).get(RouteShedding),
    )
    if server.cors_origins:
        app.add_middleware(CORSMiddleware, **cors_arguments(server))


def cors_arguments(server: ServerSettings) -> dict[str, Any]:
    """Return which browsers may call, as `CORSMiddleware` wants it."""
    return {
        "allow_origins": server.cors_origins,
        "allow_methods": ["*"],
        "allow_headers": ["*"],
        "expose_headers": ["X-Request-ID", "Location"],
    }


class RequestLimits:
    """Answers 413 to a body over the limit, and 504 when there is no first byte in time.

    That is `seconds`, or less when the header Request-Timeout says so.

    A body is refused at once when it says how long it is, else when it has come so far; FastAPI's
    own limit answers in plain text, outside of every middleware. A late request is cancelled, but a
    plain `def` route goes on in its thread: the client has its answer, the thread is not free
    before the route returns. A stream that has begun may last.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        max_bytes: int,
        seconds: float,
        shedding: RouteShedding | None = None,
        clock: Callable[[], float] = now,
    ) -> None:
        self._app, self._max_bytes = app, max_bytes
        self._seconds, self._clock = seconds, clock
        self._shedding = shedding or RouteShedding()
        # In the order in which they began, so that the first is the next to be late: one timer is
        # enough for all of them.
        self._waiting: dict[_Timed, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request; a WebSocket has no deadline, and its server limits messages."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        timed = _Timed(scope, receive, send, self._seconds)
        # It may have waited for its turn.
        began: float = scope.get("arrived") or self._clock()
        asked, has_body = _told(scope)
        if asked is None or asked >= self._seconds:
            timed.deadline = self._waiting[timed] = began + self._seconds
            if self._timer is None:
                self._look_in(self._seconds)
        else:
            timed.deadline = began + asked
            timed.expires_in(asked)
        request_context.begin(timed)
        try:
            if has_body:
                await self._limited(scope, receive, timed.send)
            else:
                await self._app(scope, receive, timed.send)
        except asyncio.CancelledError:
            if timed.late is None or _this_task().uncancel() > 0:
                raise
        finally:
            self._waiting.pop(timed, None)
            timed.over()
            self._shedding.record(scope, timed.queue_limit)
            if timed.late is not None:
                await timed.late

    async def _limited(self, scope: Scope, receive: Receive, send: Send) -> None:
        detail = f"The body is larger than {self._max_bytes} bytes."
        length = Headers(scope=scope).get("content-length", "")
        if length.isdecimal() and int(length) > self._max_bytes:
            response = problem_response(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail, scope)
            await response(scope, receive, send)
            return
        received = 0

        async def receive_some() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)
            return message

        await self._app(scope, receive_some, send)

    def _look_in(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        """End what is late, and look again when the next one may be."""
        self._timer = None
        now = self._clock()
        for timed, due in list(self._waiting.items()):
            if due > now:
                self._look_in(due - now)
                return
            del self._waiting[timed]
            timed.expire()


def _told(scope: Scope) -> tuple[float | None, bool]:
    """Return the time that the client allows, and whether a body may follow the headers."""
    asked, has_body = None, not scope["http_version"].startswith("1")
    for name, value in scope["headers"]:
        if name in _OF_BODIES:
            has_body = True
        elif name == _TIMEOUT and asked is None:
            asked = request_context.parse_timeout(value.decode("latin-1"))
    return asked, has_body


class _Timed:
    """One request and its deadline."""

    __slots__ = (
        *("_receive", "_scope", "_seconds", "_send", "_started", "_task", "_timer"),
        *("deadline", "queue_limit", "late"),
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send, seconds: float) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self._seconds, self._started = seconds, False
        self._timer: asyncio.TimerHandle | None = None
        self.deadline: float | None = None
        self.queue_limit: request_context.Limit | None = None
        self._task: asyncio.Task[Any] | None = _this_task()
        self.late: asyncio.Task[None] | None = None

    def send(self, message: Message) -> Awaitable[None]:
        """Pass a message on, until the answer was another one."""
        if self.late is not None:
            return _nothing()
        self._started, self.deadline = True, None
        return self._send(message)

    def expires_in(self, seconds: float) -> None:
        """Give it less time than others have."""
        self._seconds = seconds
        self._timer = asyncio.get_running_loop().call_later(seconds, self.expire)

    def over(self) -> None:
        """Set nobody a deadline any more."""
        # The task's context has this request: left so, both would wait for the garbage collector,
        # and with them all that the request has made, a tenth of the CPU of a small answer.
        self.deadline = self._task = None
        if self._timer is not None:
            self._timer.cancel()

    def expire(self) -> None:
        """Answer in place of the request, unless it has begun to."""
        if not self._started and self._task is not None:
            self.late = asyncio.create_task(self._answer())
            self._task.cancel()

    async def _answer(self) -> None:
        detail = f"The request was not answered within its {self._seconds:g} s."
        response = problem_response(504, detail, self._scope)
        await response(self._scope, self._receive, self._send)


def _this_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 (a coroutine that runs has a task)
    return task


async def _nothing() -> None:
    """Send nothing."""
