"""One look at each request: its id, its time, its log line, and an answer when all else fails."""

import asyncio
import re
import time
import uuid
from collections.abc import Callable

import structlog
from fastapi import FastAPI
from opentelemetry import trace
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .drain import Drain
from .errors import problem_response
from .server import ServerSettings
from .threads import runs_on_loop

log = structlog.get_logger("access")
# What may come in as a request id and go out into logs: no spaces, quotes or line ends.
_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_UNMATCHED = "unmatched"


def install(app: FastAPI, server: ServerSettings) -> None:
    """Wrap everything that was added before."""
    app.add_middleware(Observe, drain=app.state.drain, headers=_security_headers(server))


class Observe:
    """The outermost middleware: each request gets an id, a time and exactly one log line.

    Every answer, errors and streams included, carries X-Request-ID, X-Processed-Time (seconds to
    its first byte) and the security headers that it does not set itself. An exception that nobody
    handled becomes a 500 problem without details; while the worker leaves, one that was cut is 503.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        drain: Drain,
        headers: dict[str, str],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._app, self._drain, self._headers, self._clock = app, drain, headers, clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or one WebSocket."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        look = _Look(scope, send, self._clock, self._headers, self._drain)
        with structlog.contextvars.bound_contextvars(request_id=look.request_id):
            try:
                await self._app(scope, receive, look.send)
            except asyncio.CancelledError:
                if not self._drain.draining or look.begun:
                    raise
                # Answered, it need not be raised: the server would log it as an error.
                await look.answer_cut(receive)
            except Exception as error:
                trace.get_current_span().record_exception(error)
                log.exception("unhandled error", method=scope.get("method"), path=scope["path"])
                if look.begun:
                    # Half an answer must not look whole: the server breaks the connection off.
                    raise
                await look.answer_bug(receive)
            finally:
                look.log()


class _Look:
    """What is known of one request."""

    def __init__(
        self,
        scope: Scope,
        send: Send,
        clock: Callable[[], float],
        headers: dict[str, str],
        drain: Drain,
    ) -> None:
        self._scope, self._send, self._clock = scope, send, clock
        self._headers, self._drain = headers, drain
        self._started = clock()
        self._status: int | None = None
        given = Headers(scope=scope).get("x-request-id", "")
        self.request_id = given if _ID.fullmatch(given) else uuid.uuid4().hex
        scope["request_id"] = self.request_id

    @property
    def begun(self) -> bool:
        """Whether it is too late to answer anything else; a WebSocket has no status to change."""
        return self._status is not None or self._scope["type"] != "http"

    async def send(self, message: Message) -> None:
        """Pass a message on to the client, with our headers on the first."""
        if message["type"] in ("http.response.start", "websocket.http.response.start"):
            self._status = message["status"]
            self._add_headers(MutableHeaders(scope=message))
        elif message["type"] == "websocket.accept":
            self._status = 101
        elif message["type"] == "websocket.close":
            self._status = message.get("code", 1000) if self._status else 403
        await self._send(message)

    def _add_headers(self, headers: MutableHeaders) -> None:
        for name, value in self._headers.items():
            headers.setdefault(name, value)
        headers["X-Request-ID"] = self.request_id
        headers["X-Processed-Time"] = f"{self._clock() - self._started:.6f}"
        if self._drain.draining:
            headers["Connection"] = "close"

    async def answer_bug(self, receive: Receive) -> None:
        """Say 500 without details."""
        response = problem_response(500, "The service failed; its log says how.", self._scope)
        await response(self._scope, receive, self.send)

    async def answer_cut(self, receive: Receive) -> None:
        """Say 503 to a request that is cut because the worker leaves."""
        detail = "The service is restarting; try again."
        response = problem_response(503, detail, self._scope, headers={"Retry-After": "1"})
        await response(self._scope, receive, self.send)

    def log(self) -> None:
        """Write the one line."""
        scope = self._scope
        log.info(
            "request",
            method=scope.get("method", "WEBSOCKET"),
            route=route_template(scope),
            status=self._status or 499,
            ms=round((self._clock() - self._started) * 1000, 2),
            mode=_mode(scope),
        )


def route_template(scope: Scope) -> str:
    """Return the template of the matched route with every prefix, never the path itself."""
    # FastAPI leaves the whole template of an HTTP route in its own context, and that of a WebSocket
    # in the route.
    context = scope.get("fastapi", {}).get("effective_route_context")
    templates = (getattr(found, "path", "") for found in (context, scope.get("route")))
    return next(filter(None, templates), _UNMATCHED)


def _mode(scope: Scope) -> str | None:
    endpoint = scope.get("endpoint")
    if endpoint is None:
        return None
    return "event loop" if runs_on_loop(endpoint) else "thread pool"


def _security_headers(server: ServerSettings) -> dict[str, str]:
    headers = {
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "frame-ancestors 'none'",
        "Referrer-Policy": "no-referrer",
    }
    if server.hsts_seconds:
        headers["Strict-Transport-Security"] = f"max-age={server.hsts_seconds}; includeSubDomains"
    return headers
