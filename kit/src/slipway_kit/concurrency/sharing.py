"""Work that several callers share; it belongs to none of their requests."""

import asyncio
import contextvars
import copy
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from functools import partial
from typing import Any, Generic, TypeVar

import structlog
from opentelemetry import context as otel
from opentelemetry import trace

from slipway_kit.errors import DeadlineExceeded

T = TypeVar("T")


def start_shared(
    work: Coroutine[Any, Any, T],
    *,
    name: str,
    callers: Iterable[trace.SpanContext],
    ended: Callable[[asyncio.Task[T]], None],
    **labels: str,
) -> asyncio.Task[T]:
    """Start `work` without the context of its caller; its log lines carry `labels` instead.

    The work outlives its first caller, so it has neither that caller's request id nor its deadline.
    It starts a trace of its own, which is linked to the spans of `callers`. `ended` is called with
    the task at its end, in the context of the work.
    """
    links = [trace.Link(caller) for caller in callers if caller.is_valid]
    span = trace.get_tracer(__name__).start_span(name, context=otel.Context(), links=links)
    context = contextvars.Context()
    context.run(structlog.contextvars.bind_contextvars, **labels)
    context.run(otel.attach, trace.set_span_in_context(span, otel.Context()))
    task = asyncio.create_task(work, name=name, context=context)
    task.add_done_callback(ended, context=context)
    task.add_done_callback(partial(_end, span))
    return task


class Shared(Generic[T]):
    """One result for several callers; each can be cancelled, and gets its own copy of an error."""

    task: asyncio.Task[Any]

    def __init__(self, since: float = 0) -> None:
        # When it was first requested.
        self.since = since
        self._waiters: dict[asyncio.Future[T], trace.SpanContext] = {}

    @property
    def has_waiters(self) -> bool:
        """Whether any caller still waits."""
        return any(not answer.done() for answer in self._waiters)

    @property
    def callers(self) -> Iterable[trace.SpanContext]:
        """The span contexts of the callers, for links."""
        return self._waiters.values()

    def add_waiter(self) -> asyncio.Future[T]:
        """Return a future for one caller; a caller that is cancelled checks `has_waiters`."""
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiters[answer] = trace.get_current_span().get_span_context()
        return answer

    def resolve(self, value: T) -> None:
        """Give the result to every caller that still waits."""
        for answer in self._waiters:
            if not answer.done():
                answer.set_result(value)

    def reject(self, error: BaseException) -> None:
        """Raise a copy of `error` in every caller that still waits."""
        for answer in self._waiters:
            if not answer.done():
                answer.set_exception(_copy(error))


async def within(seconds: float, work: Awaitable[T], *, name: str) -> T:
    """Await `work` for `seconds` at most; its own `TimeoutError` is passed on."""
    deadline = asyncio.timeout(seconds)
    try:
        async with deadline:
            return await work
    except TimeoutError as error:
        if not deadline.expired():
            raise
        raise DeadlineExceeded(f"The {name} took too long.") from error


def _copy(error: BaseException) -> BaseException:
    """Return a copy of `error`, so that each caller that raises it extends its own traceback.

    An error that cannot be copied is shared.
    """
    try:
        own = copy.copy(error)
    except Exception:  # noqa: BLE001 (any error class may refuse to be copied)
        return error
    own.__cause__, own.__context__ = error.__cause__, error.__context__
    own.__suppress_context__ = error.__suppress_context__
    return own.with_traceback(error.__traceback__)


def _end(span: trace.Span, task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()):
        span.set_status(trace.StatusCode.ERROR, type(error).__name__)
    span.end()
