"""Work that several callers wait for: it belongs to none of their requests."""

import asyncio
import contextvars
import copy
from collections.abc import Awaitable, Coroutine, Iterable
from typing import Any, Generic, TypeVar

import structlog
from opentelemetry import context as otel
from opentelemetry import trace

T = TypeVar("T")


def start_shared(
    work: Coroutine[Any, Any, T],
    *,
    name: str,
    callers: Iterable[trace.SpanContext] = (),
    **labels: str,
) -> asyncio.Task[T]:
    """Start `work` without the context of its caller; its log lines carry `labels` instead.

    The request id, trace and deadline of the first of many callers would mislead: the others wait
    for the same work, and it goes on when the first one leaves. It begins a trace of its own, which
    is linked to the spans of `callers`.
    """
    links = [trace.Link(caller) for caller in callers if caller.is_valid]
    span = trace.get_tracer(__name__).start_span(name, context=otel.Context(), links=links)
    context = contextvars.Context()
    context.run(structlog.contextvars.bind_contextvars, **labels)
    context.run(otel.attach, trace.set_span_in_context(span, otel.Context()))
    task = asyncio.create_task(work, name=name, context=context)
    task.add_done_callback(lambda ended: _end(span, ended))
    return task


class Shared(Generic[T]):
    """One result for all who wait for it. Each of them may leave, and gets an error of its own."""

    def __init__(self) -> None:
        self._callers: dict[asyncio.Future[T], trace.SpanContext] = {}

    @property
    def wanted(self) -> bool:
        """Whether somebody still waits for it."""
        return any(not answer.done() for answer in self._callers)

    @property
    def callers(self) -> Iterable[trace.SpanContext]:
        """The spans that were current where it was asked for, to be linked."""
        return self._callers.values()

    def ask(self) -> asyncio.Future[T]:
        """Return what one caller waits for; one that is cancelled looks at `wanted`."""
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._callers[answer] = trace.get_current_span().get_span_context()
        return answer

    def resolve(self, value: T) -> None:
        """Give the result to those who still wait."""
        for answer in self._callers:
            if not answer.done():
                answer.set_result(value)

    def reject(self, error: BaseException) -> None:
        """Raise an error like `error` where they still wait."""
        for answer in self._callers:
            if not answer.done():
                answer.set_exception(own_error(error))


async def within(seconds: float, work: Awaitable[T], late: Exception) -> T:
    """Return what `work` gives, or raise `late`; a `TimeoutError` of its own is passed on."""
    deadline = asyncio.timeout(seconds)
    try:
        async with deadline:
            return await work
    except TimeoutError as error:
        if not deadline.expired():
            raise
        raise late from error


def mark_failed(span: trace.Span, error: BaseException) -> None:
    """Say in a span that its work failed."""
    span.set_status(trace.StatusCode.ERROR, type(error).__name__)


def own_error(error: BaseException) -> BaseException:
    """Return an error like `error` for one of several that it is raised for.

    Each extends the traceback of its own one. An error that cannot be copied is shared.
    """
    try:
        own = copy.copy(error)
    except Exception:  # noqa: BLE001 (whatever the class of a foreign error makes of a copy)
        return error
    if type(own) is not type(error):
        return error
    own.__cause__, own.__context__ = error.__cause__, error.__context__
    own.__suppress_context__ = error.__suppress_context__
    return own.with_traceback(error.__traceback__)


def _end(span: trace.Span, task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()):
        mark_failed(span, error)
    span.end()
