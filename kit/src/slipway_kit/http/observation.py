"""The outermost middleware: request id, time, span, log line, and 500 for unhandled errors."""

from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from http import HTTPStatus
from random import getrandbits
from typing import TYPE_CHECKING

import structlog
from fastapi import FastAPI
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from slipway_kit.clock import now
from slipway_kit.config.server import ServerSettings
from slipway_kit.http.answer_headers import (
    Headers,
    for_browsers,
    request_id_given,
    security_headers,
)
from slipway_kit.http.probes import Drain
from slipway_kit.http.records import CLIENT_GONE, WEBSOCKET, FinishedRequest, Records
from slipway_kit.http.routes import route_of, slash_redirect
from slipway_kit.http.unhandled import UnhandledErrors
from slipway_kit.runtime import runtime_of
from slipway_kit.tracing.provider import Traces

if TYPE_CHECKING:
    from slipway_kit.tracing.request_spans import RequestSpan

_OURS = frozenset({b"x-request-id", b"x-processed-time", b"connection"})
# structlog's variable: setting it takes a fifth of the time of binding.
_bound = structlog.contextvars.bind_contextvars(request_id="")
structlog.contextvars.reset_contextvars(**_bound)
_REQUEST_ID: ContextVar[str] = _bound["request_id"].var


def install(app: FastAPI, server: ServerSettings) -> None:
    """Add the middleware around everything added before."""
    runtime = runtime_of(app)
    app.add_middleware(
        ObservationMiddleware,
        drain=runtime.get(Drain),
        traces=runtime.get(Traces),
        headers=security_headers(server),
        record=runtime.get(Records).add,
        for_browsers=for_browsers(server),
    )


class ObservationMiddleware:
    """Gives each request an id, a time, a span and exactly one record.

    Every answer, errors and streams included, carries X-Request-ID, X-Processed-Time (seconds to
    its first byte) and the security headers that it does not set itself. An unhandled exception
    is the answer of the app's handler for `Exception`, or a 500 problem without details; a request
    that is cancelled is 503. A client that leaves before its answer begins is 499, whatever the app
    makes of it.
    """

    def __init__(  # noqa: PLR0913 (each is used)
        self,
        app: ASGIApp,
        *,
        drain: Drain,
        traces: Traces,
        headers: Headers,
        record: Callable[[FinishedRequest], None],
        for_browsers: Callable[[Mapping[bytes, bytes]], Headers] = lambda _: [],
        clock: Callable[[], float] = now,
    ) -> None:
        self._app, self.drain, self._traces, self.headers = app, drain, traces, headers
        self._record, self.clock = record, clock
        self._unhandled = UnhandledErrors(drain, for_browsers)
        self.names = _OURS.union(name for name, _ in headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or one WebSocket."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        observer = RequestObserver(self, scope, receive, send)
        bound = _REQUEST_ID.set(observer.request_id)
        spans = self._traces.spans
        span = None if spans is None else spans.open(scope, observer.headers, observer.random)
        observer.span = span
        error: BaseException | None = None
        try:
            await self._app(scope, observer.receive, observer.send)
            if not observer.answer_started:
                bug = RuntimeError("The application returned without an answer.")
                await self._unhandled.answer(bug, scope, observer)
        except (ClientDisconnect, WebSocketDisconnect):
            # Nobody is left to be answered.
            pass
        except GeneratorExit as closed:
            error = closed
            raise
        except BaseException as unhandled:
            if await self._unhandled.answer(unhandled, scope, observer):
                error = unhandled
                raise
        finally:
            finished = observer.finished()
            self._record(finished)
            if span is not None:
                span.close(scope, route=finished.route, status=finished.status, error=error)
            _REQUEST_ID.reset(bound)


class RequestObserver:
    """The state of one request."""

    __slots__ = (
        *("_length", "_middleware", "_receive", "_scope", "_send", "_started"),
        *("headers", "random", "request_id", "span", "status"),
    )

    def __init__(
        self, middleware: ObservationMiddleware, scope: Scope, receive: Receive, send: Send
    ) -> None:
        # Its arrival, if it waited for admission.
        self._started: float = scope.get("arrived") or middleware.clock()
        self._middleware, self._scope = middleware, scope
        self._receive, self._send = receive, send
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.span: RequestSpan | None = None
        self.status: int | None = None
        self._length = 0
        # Ids must be unique, not secret.
        self.random = f"{getrandbits(192):048x}"
        # By default the id of the trace that may begin here.
        self.request_id = request_id_given(self.headers) or self.random[:32]
        scope["request_id"] = self.request_id

    @property
    def answer_started(self) -> bool:
        """Whether it is too late for another answer; a WebSocket never has another."""
        return self.status is not None or self._scope["type"] != "http"

    async def receive(self) -> Message:
        """Pass a message on, and note a client that leaves before its answer."""
        message = await self._receive()
        if self.status is None and message["type"] == "http.disconnect":
            self.status = CLIENT_GONE
        return message

    def send(self, message: Message) -> Awaitable[None]:
        """Pass a message on, with our headers on the first."""
        kind = message["type"]
        if kind == "http.response.body":
            span = self.span
            if span is not None and span.recorded and not message.get("more_body"):
                span.answered()
        elif kind in ("http.response.start", "websocket.http.response.start"):
            if self.status != CLIENT_GONE:
                self.status = message["status"]
            if self.status == HTTPStatus.TEMPORARY_REDIRECT and "endpoint" not in self._scope:
                message["headers"] = slash_redirect(self._scope, message["headers"])
            self._add_headers(message)
        elif kind == "websocket.accept":
            self.status = 101
        elif kind == "websocket.close":
            self.status = message.get("code", 1000) if self.status else 403
        return self._send(message)

    def _add_headers(self, message: Message) -> None:
        middleware = self._middleware
        headers: Headers = list(message.get("headers", ()))
        own = True
        for name, value in headers:
            if name == b"content-length":
                self._length = int(value)
            elif name in middleware.names:
                own = False
        seconds = middleware.clock() - self._started
        ours = [
            (b"x-request-id", self.request_id.encode()),
            (b"x-processed-time", b"%.6f" % seconds),
        ]
        if middleware.drain.draining:
            ours.append((b"connection", b"close"))
        defaults = middleware.headers
        if not own:
            # Ours replace those of the answer, and those replace the defaults.
            replaced, there = {name for name, _ in ours}, {name for name, _ in headers}
            headers = [header for header in headers if header[0] not in replaced]
            defaults = [header for header in defaults if header[0] not in there]
        message["headers"] = [*headers, *ours, *defaults]

    def finished(self) -> FinishedRequest:
        """Return its record."""
        scope, status = self._scope, self.status or CLIENT_GONE
        received = self.headers.get(b"content-length", b"")
        # Positional arguments take half the time of keywords.
        return FinishedRequest(
            scope.get("method", WEBSOCKET),
            route_of(scope, status=status),
            scope.get("endpoint"),
            status,
            self._middleware.clock() - self._started,
            int(received) if received.isdigit() else 0,
            self._length,
            self.request_id,
            None if self.span is None else self.span.ids,
        )
