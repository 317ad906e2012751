"""One look at each request: its id, its time, its log line, and an answer when all else fails."""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from random import getrandbits
from typing import TYPE_CHECKING

import structlog
from fastapi import FastAPI
from opentelemetry import trace
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from slipway_kit.clock import now
from slipway_kit.config.server import ServerSettings
from slipway_kit.errors import ServiceError
from slipway_kit.http.drain import Drain
from slipway_kit.http.ended import Ended, Records
from slipway_kit.http.headers import Headers, merged, request_id_given, security_headers
from slipway_kit.http.problem_details import problem_response
from slipway_kit.http.request_metrics import WEBSOCKET
from slipway_kit.http.routes import route_of
from slipway_kit.runtime import runtime_of
from slipway_kit.tracing.provider import Traces

if TYPE_CHECKING:
    from slipway_kit.tracing.request_spans import RequestSpan

log = structlog.get_logger("access")
_BUG = 500
_CLIENT_GONE = 499
_OURS = frozenset({b"x-request-id", b"x-processed-time", b"connection"})


def _variable_of(name: str) -> ContextVar[str]:
    """Return where structlog keeps what is bound to a name: to set it takes a fifth of binding."""
    bound = structlog.contextvars.bind_contextvars(**{name: ""})
    structlog.contextvars.reset_contextvars(**bound)
    variable: ContextVar[str] = bound[name].var
    return variable


_REQUEST_ID = _variable_of("request_id")


def install(app: FastAPI, server: ServerSettings) -> None:
    """Wrap everything that was added before."""
    runtime = runtime_of(app)
    app.add_middleware(
        Observe,
        drain=runtime.get(Drain),
        traces=runtime.get(Traces),
        headers=security_headers(server),
        ended=runtime.get(Records).add,
    )


class Observe:
    """The outermost middleware: each request gets an id, a time, a span and exactly one record.

    A request without an id of its own gets that of the trace which begins with it. Every answer,
    errors and streams included, carries X-Request-ID, X-Processed-Time (seconds to its first byte)
    and the security headers that it does not set itself. An exception that nobody handled becomes a
    500 problem without details; while the worker leaves, one that was cut is 503.
    """

    def __init__(  # noqa: PLR0913 (what a request is to leave)
        self,
        app: ASGIApp,
        *,
        drain: Drain,
        traces: Traces,
        headers: Headers,
        ended: Callable[[Ended], None] = Ended.log,
        clock: Callable[[], float] = now,
    ) -> None:
        self._app, self.drain, self._traces, self.headers = app, drain, traces, headers
        self._ended, self.clock = ended, clock
        self.names = _OURS.union(name for name, _ in headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or one WebSocket."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        look = RequestObserver(self, scope, send)
        bound = _REQUEST_ID.set(look.request_id)
        spans = self._traces.spans
        span = None if spans is None else spans.open(scope, look.headers, look.random)
        look.span = span
        error: BaseException | None = None
        try:
            await self._app(scope, receive, look.send)
        except asyncio.CancelledError as cut:
            if not self.drain.draining or look.begun:
                error = cut
                raise
            # Answered, it need not be raised: the server would log it as an error.
            await look.answer_cut(receive)
        except Exception as bug:
            trace.get_current_span().record_exception(bug)
            request = {"method": scope.get("method"), "path": scope["path"]}
            reason = _named(bug)
            if look.begun and reason is not None:
                log.warning("answer broken off", reason=str(reason), **request)
            else:
                log.exception("unhandled error", **request)
            if look.begun:
                # Half an answer must not look whole: the server breaks the connection off.
                error = bug
                raise
            await look.answer_bug(receive)
        finally:
            ended = look.ended()
            self._ended(ended)
            if span is not None:
                span.close(scope, route=ended.route, status=look.status, error=error)
            _REQUEST_ID.reset(bound)


class RequestObserver:
    """What is known of one request."""

    __slots__ = (
        *("_length", "_observe", "_scope", "_send", "_started"),
        *("headers", "random", "request_id", "span", "status"),
    )

    def __init__(self, observe: Observe, scope: Scope, send: Send) -> None:
        # It may have waited for its turn.
        self._started: float = scope.get("arrived") or observe.clock()
        self._observe, self._scope, self._send = observe, scope, send
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.span: RequestSpan | None = None
        self.status: int | None = None
        self._length = 0
        # Ids are no secrets: they have only to be others each time.
        self.random = f"{getrandbits(192):048x}"
        # Without a given one it is that of the trace which may begin here.
        given = request_id_given(self.headers.get(b"x-request-id"))
        self.request_id = given or self.random[:32]
        scope["request_id"] = self.request_id

    @property
    def begun(self) -> bool:
        """Whether it is too late to answer anything else; a WebSocket has no status to change."""
        return self.status is not None or self._scope["type"] != "http"

    def send(self, message: Message) -> Awaitable[None]:
        """Pass a message on to the client, with our headers on the first."""
        kind = message["type"]
        if kind == "http.response.body":
            span = self.span
            if span is not None and span.recorded and not message.get("more_body"):
                span.answered()
        elif kind in ("http.response.start", "websocket.http.response.start"):
            self.status = message["status"]
            self._add_headers(message)
        elif kind == "websocket.accept":
            self.status = 101
        elif kind == "websocket.close":
            self.status = message.get("code", 1000) if self.status else 403
        return self._send(message)

    def _add_headers(self, message: Message) -> None:
        observe = self._observe
        headers: Headers = list(message.get("headers", ()))
        own = True
        for name, value in headers:
            if name == b"content-length":
                self._length = int(value)
            elif name in observe.names:
                own = False
        seconds = observe.clock() - self._started
        ours = [
            (b"x-request-id", self.request_id.encode()),
            (b"x-processed-time", b"%.6f" % seconds),
        ]
        if observe.drain.draining:
            ours.append((b"connection", b"close"))
        if own:
            message["headers"] = [*headers, *ours, *observe.headers]
        else:
            message["headers"] = merged(headers, ours, observe.headers)

    async def answer_bug(self, receive: Receive) -> None:
        """Say 500 without details."""
        response = problem_response(_BUG, "The service failed; its log says how.", self._scope)
        await response(self._scope, receive, self.send)

    async def answer_cut(self, receive: Receive) -> None:
        """Say 503 to a request that is cut because the worker leaves."""
        detail = "The service is restarting; try again."
        response = problem_response(503, detail, self._scope, headers={"Retry-After": "1"})
        await response(self._scope, receive, self.send)

    def ended(self) -> Ended:
        """Return what is left of it."""
        scope, status = self._scope, self.status or _CLIENT_GONE
        received = self.headers.get(b"content-length", b"")
        # By position, which takes half the time of names.
        return Ended(
            scope.get("method", WEBSOCKET),
            route_of(scope, status=status),
            scope.get("endpoint"),
            status,
            self._observe.clock() - self._started,
            int(received) if received.isdigit() else 0,
            self._length,
            self.request_id,
            None if self.span is None else self.span.ids,
        )


def _named(error: Exception) -> ServiceError | None:
    """Return the outcome that had come too late to be the answer, if that is what went wrong."""
    found = error if isinstance(error, ServiceError) else error.__cause__
    return found if isinstance(found, ServiceError) else None
