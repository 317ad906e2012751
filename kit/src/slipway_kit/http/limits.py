"""Limits of a request: size and rate of its body, its deadline, and the origins of CORS."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
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
# Between two looks at a deadline that moves.
_LEAST_SECONDS = 0.01


def install(app: FastAPI, server: ServerSettings) -> None:
    """Add the middleware."""
    app.add_middleware(
        RequestLimits,
        max_bytes=server.max_body_bytes,
        seconds=server.request_timeout_seconds,
        upload_rate=server.upload_min_bytes_per_second,
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

    The deadline is `seconds` after the arrival. Waiting for the body moves it, as long as the
    client sends `upload_rate` bytes per second on average; a slower client uses up the time of its
    request. The answer is 408 when the body is late at the deadline, or took more of that time than
    the application. It is 408 too when the client asked for less time by the header
    Request-Timeout, which counts from the arrival to the answer.

    A late request is cancelled, but a plain `def` route keeps its thread until it returns. A stream
    that has begun has no deadline. A body with a content-length is refused at once, another one
    when it exceeds the limit.
    """

    def __init__(  # noqa: PLR0913 (each is used)
        self,
        app: ASGIApp,
        *,
        max_bytes: int,
        seconds: float,
        upload_rate: float = math.inf,
        shedding: RouteShedding | None = None,
        clock: Callable[[], float] = now,
    ) -> None:
        self._app, self._max_bytes, self._upload_rate = app, max_bytes, upload_rate
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
        seconds, asked = self._seconds, None
        if _TIMEOUT in headers:
            asked = request_context.parse_timeout(headers[_TIMEOUT].decode("latin-1"))
            seconds = min(asked or seconds, seconds)
        # Its arrival, if it waited for admission.
        began: float = scope.get("arrived") or self._clock()
        timed = _TimedRequest(scope, receive, send, began)
        timed.by_client = seconds < self._seconds
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
                await self._with_body(app, timed, length, asked or math.inf)
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

    async def _with_body(
        self, app: ASGIApp, timed: "_TimedRequest", length: bytes, asked: float
    ) -> None:
        detail = f"The body is larger than {self._max_bytes} bytes."
        if length.isdigit() and int(length) > self._max_bytes:
            app = problem_response(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail, timed.scope)
        upload = timed.upload = _Upload(self._seconds, asked, self._upload_rate)
        clock, receive = self._clock, timed.receive

        async def receive_some() -> Message:
            if upload.complete:
                return await receive()
            upload.since = since = clock()
            try:
                message = await receive()
            finally:
                ended = clock()
                upload.waited += ended - since
                upload.since = None
            upload.received += len(message.get("body", b""))
            if upload.received > self._max_bytes:
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)
            upload.complete = not message.get("more_body")
            timed.move_deadline(ended)
            return message

        await app(timed.scope, receive_some, timed.send)

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
            self._expire_one(timed)

    def _expire_one(self, timed: "_TimedRequest") -> None:
        """Expire a request, or look again when its deadline has moved."""
        now = self._clock()
        timed.move_deadline(now)
        left = 0.0 if timed.deadline is None else timed.deadline - now
        if left > 0:
            loop = asyncio.get_running_loop()
            timed.timer = loop.call_later(max(left, _LEAST_SECONDS), self._expire_one, timed)
        else:
            timed.expire()


class _Upload:
    """How long the application waited for a body, and by how much that makes the deadline later.

    It is what the bytes received may take at the least rate, so at most MAX_BODY_BYTES /
    UPLOAD_MIN_BYTES_PER_SECOND, and no more than the application waited.
    """

    __slots__ = ("_asked", "_seconds", "complete", "rate", "received", "since", "waited")

    def __init__(self, seconds: float, asked: float, rate: float) -> None:
        self._seconds, self._asked, self.rate = seconds, asked, rate
        self.waited, self.received, self.complete = 0.0, 0, False
        # While the application waits.
        self.since: float | None = None

    def limits(self, now: float) -> tuple[float, bool]:
        """Return how long the request may take, and whether being late is its client's fault."""
        waited = self.waited if self.since is None else self.waited + now - self.since
        allowed = min(waited, self.received / self.rate)
        seconds = min(self._seconds + allowed, self._asked)
        slow = self.since is not None or waited - allowed > self._seconds / 2
        return seconds, slow or seconds == self._asked


class _TimedRequest:
    """One request and its deadline."""

    __slots__ = (
        *("_began", "_send", "_started", "_task", "by_client", "deadline", "queue_limit"),
        *("receive", "scope", "timeout_answer", "timer", "upload"),
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send, began: float) -> None:
        self.scope, self.receive, self._send = scope, receive, send
        self._began, self._started = began, False
        self._task = asyncio.current_task()
        self.by_client = False
        self.deadline: float | None = None
        # Of a deadline of its own.
        self.timer: asyncio.TimerHandle | None = None
        self.queue_limit: request_context.Limit | None = None
        self.timeout_answer: asyncio.Task[None] | None = None
        self.upload: _Upload | None = None

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

    def move_deadline(self, now: float) -> None:
        """Make the deadline later by the time of the body, if there is one."""
        if self.upload is not None and self.deadline is not None:
            seconds, self.by_client = self.upload.limits(now)
            self.deadline = self._began + seconds

    def expire(self) -> None:
        """Answer and cancel the request, unless its answer has begun."""
        if not self._started and self._task is not None:
            answer = self._late_answer()
            self.timeout_answer = asyncio.create_task(answer(self.scope, self.receive, self._send))
            self._task.cancel()

    def _late_answer(self) -> Response:
        seconds = (self.deadline or self._began) - self._began
        status = 408 if self.by_client else 504
        if self.upload is None or self.upload.since is None:
            detail = f"The request was not answered within its {seconds:g} s."
            return problem_response(status, detail, self.scope)
        rate = f"{self.upload.rate:g} bytes per second"
        detail = f"The body was not received within its {seconds:g} s; the least rate is {rate}."
        # The rest of it must not be taken for a request.
        return problem_response(status, detail, self.scope, headers={"Connection": "close"})
