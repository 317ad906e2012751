"""Limits of a request: the size of its body, its deadline, and the origins allowed by CORS."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from slipway_kit import request_context
from slipway_kit.clock import now
from slipway_kit.config.server import ServerSettings
from slipway_kit.http.head import serve_head
from slipway_kit.http.problem_details import problem_response
from slipway_kit.overload.route_shedding import RouteShedding
from slipway_kit.runtime import runtime_of

_TIMEOUT = request_context.TIMEOUT_HEADER.lower().encode()
_OF_BODIES = frozenset({b"content-length", b"transfer-encoding"})


def install(app: FastAPI, server: ServerSettings) -> None:
    """Add the middleware."""
    app.add_middleware(
        RequestLimits,
        max_bytes=server.max_body_bytes,
        seconds=server.request_timeout_seconds,
        shedding=runtime_of(app).get(RouteShedding),
    )
    if server.cors_origins:
        app.add_middleware(CORSMiddleware, **cors_arguments(server))


def cors_arguments(server: ServerSettings) -> dict[str, Any]:
    """Return the arguments of `CORSMiddleware`."""
    return {
        "allow_origins": server.cors_origins,
        "allow_methods": ["*"],
        "allow_headers": ["*"],
        "expose_headers": ["X-Request-ID", "Location"],
    }


class RequestLimits:
    """Answers 413 to a body over the limit, and 504 without a first byte before the deadline.

    The deadline is `seconds`, or less by the header Request-Timeout: then the answer is 408, for it
    is the client that had too little time. A late request is cancelled,
    but a plain `def` route keeps its thread until it returns. A stream that has begun has no
    deadline. A body with a content-length is refused at once, another one when it exceeds the
    limit.
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
        # Requests and deadlines in order of arrival, so that one timer serves all of them.
        self._waiting: dict[_TimedRequest, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; of a WebSocket, the handshake has the deadline."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        seconds = self._seconds
        if _TIMEOUT in headers:
            asked = request_context.parse_timeout(headers[_TIMEOUT].decode("latin-1"))
            seconds = min(asked or seconds, seconds)
        timed = _TimedRequest(scope, receive, send, seconds, by_client=seconds < self._seconds)
        # Its arrival, if it waited for admission.
        began: float = scope.get("arrived") or self._clock()
        timed.deadline = began + seconds
        if timed.by_client:
            timed.timer = asyncio.get_running_loop().call_later(seconds, timed.expire)
        else:
            self._waiting[timed] = timed.deadline
            if self._timer is None:
                self._schedule_expiry(seconds)
        request_context.begin(timed)
        app = partial(serve_head, self._app) if scope.get("method") == "HEAD" else self._app
        try:
            if scope["type"] == "websocket" or (
                scope["http_version"].startswith("1") and _OF_BODIES.isdisjoint(headers)
            ):
                await app(scope, receive, timed.send)
            else:
                length = headers.get(b"content-length", b"")
                await self._limited(app, scope, receive, timed.send, length)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if timed.timeout_answer is None or (task and task.uncancel() > 0):
                raise
        finally:
            self._waiting.pop(timed, None)
            timed.finish()
            if scope["type"] == "http":
                self._shedding.record(scope, timed.queue_limit)
            if timed.timeout_answer is not None:
                await timed.timeout_answer

    async def _limited(
        self, app: ASGIApp, scope: Scope, receive: Receive, send: Send, length: bytes
    ) -> None:
        detail = f"The body is larger than {self._max_bytes} bytes."
        if length.isdigit() and int(length) > self._max_bytes:
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

        await app(scope, receive_some, send)

    def _schedule_expiry(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._expire)

    def _expire(self) -> None:
        """Expire the late requests, and set the timer for the next one."""
        self._timer = None
        now = self._clock()
        for timed, due in list(self._waiting.items()):
            if due > now:
                self._schedule_expiry(due - now)
                return
            del self._waiting[timed]
            timed.expire()


class _TimedRequest:
    """One request and its deadline."""

    __slots__ = (
        *("_receive", "_scope", "_seconds", "_send", "_started", "_task"),
        *("by_client", "deadline", "queue_limit", "timeout_answer", "timer"),
    )

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, seconds: float, *, by_client: bool
    ) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self._seconds, self._started = seconds, False
        self._task = asyncio.current_task()
        self.by_client = by_client
        self.deadline: float | None = None
        # Of a deadline of its own.
        self.timer: asyncio.TimerHandle | None = None
        self.queue_limit: request_context.Limit | None = None
        self.timeout_answer: asyncio.Task[None] | None = None

    def send(self, message: Message) -> Awaitable[None]:
        """Pass a message on, unless the request was answered for being late."""
        if self.timeout_answer is not None:
            # Dropped.
            return asyncio.sleep(0)
        self._started, self.deadline = True, None
        return self._send(message)

    def finish(self) -> None:
        """Drop the deadline and the references."""
        # This request and its task refer to each other: left to the garbage collector, they would
        # cost a tenth of the CPU of a small answer.
        self.deadline = self._task = None
        if self.timer is not None:
            self.timer.cancel()

    def expire(self) -> None:
        """Answer and cancel the request, unless its answer has begun."""
        if not self._started and self._task is not None:
            self.timeout_answer = asyncio.create_task(self._answer())
            self._task.cancel()

    async def _answer(self) -> None:
        detail = f"The request was not answered within its {self._seconds:g} s."
        status = 408 if self.by_client else 504
        response = problem_response(status, detail, self._scope)
        await response(self._scope, self._receive, self._send)
