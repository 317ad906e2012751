"""What becomes of errors that nothing handles: a log line, an event of the span, an answer."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Protocol

import structlog
from fastapi.exceptions import ResponseValidationError
from opentelemetry import trace
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.types import Message, Receive, Scope, Send

from slipway_kit.errors import ServiceError
from slipway_kit.http.answer_headers import Headers
from slipway_kit.http.probes import Drain
from slipway_kit.http.problem_details import problem_response
from slipway_kit.http.routes import route_of

log = structlog.get_logger("access")


class Observer(Protocol):
    """The request that failed."""

    headers: dict[bytes, bytes]
    status: int | None

    @property
    def answer_started(self) -> bool:
        """Whether it is too late for another answer."""

    async def receive(self) -> Message:
        """Return what the client sent."""

    def send(self, message: Message) -> Awaitable[None]:
        """Send a part of the answer."""


class UnhandledErrors:
    """Answers in place of the app."""

    def __init__(
        self, drain: Drain, for_browsers: Callable[[Mapping[bytes, bytes]], Headers]
    ) -> None:
        self._drain, self._for_browsers = drain, for_browsers

    async def answer(self, error: BaseException, scope: Scope, observer: Observer) -> bool:
        """Answer; return whether the server must see the error too."""
        task, late = asyncio.current_task(), observer.answer_started
        # Not when the app awaited a task that was cancelled.
        cancelled = isinstance(error, asyncio.CancelledError) and task and task.cancelling()
        if not cancelled:
            _report(error, scope, late=late)
        if late:
            # The server answers a handshake with 500. Another connection it closes, so that half an
            # answer does not look complete.
            observer.status = observer.status or 500
            return True
        # CORS is within the observation, and browsers of allowed origins may read errors too.
        more = self._for_browsers(observer.headers)
        send: Send = partial(_send_with, more, observer.send)
        if cancelled:
            detail, headers = "The service is restarting; try again.", {"Retry-After": "1"}
            problem = problem_response(503, detail, scope, headers=headers)
            await problem(scope, observer.receive, send)
            # Once answered, the server would log it as an error.
            return not self._drain.draining
        if isinstance(error, Exception):
            await _answer_by_handler(error, scope, observer.receive, send)
        if not observer.answer_started:
            problem = problem_response(500, "The service failed; its log says how.", scope)
            await problem(scope, observer.receive, send)
        return False


def _send_with(more: Headers, send: Send, message: Message) -> Awaitable[None]:
    if message["type"] == "http.response.start":
        given: Headers = list(message.get("headers", ()))
        own = {name for name, _ in given} - {b"vary"}
        message["headers"] = given + [header for header in more if header[0] not in own]
    return send(message)


def _report(error: BaseException, scope: Scope, *, late: bool) -> None:
    """Record an unhandled error in the span and in the log, without the answer that it quotes."""
    if isinstance(error, ResponseValidationError):
        for each in error.errors():
            each.pop("input", None)
    trace.get_current_span().record_exception(error)
    request = {"method": scope.get("method"), "route": route_of(scope, status=500)}
    reason = error if isinstance(error, ServiceError) else error.__cause__
    if late and isinstance(reason, ServiceError):
        log.warning("answer broken off", reason=str(reason), **request)
    else:
        log.error("unhandled error", exc_info=error, **request)


async def _answer_by_handler(error: Exception, scope: Scope, receive: Receive, send: Send) -> None:
    """Let the app's own handler for `Exception` answer, if there is one."""
    handlers = getattr(scope.get("app"), "exception_handlers", {})
    handler = handlers.get(Exception) or handlers.get(500)
    if handler is None:
        return

    async def fail(*_: object) -> None:
        raise error

    try:
        answer = ExceptionMiddleware(fail, {Exception: handler})
        await answer(scope, receive, send)
    except Exception:
        log.exception("the handler of unhandled errors failed")
