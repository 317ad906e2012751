"""The deadline and the queue limit of the request being served, for code without access to it."""

from contextvars import Context, ContextVar, copy_context
from typing import Protocol

from slipway_kit.clock import now

# Seconds as a decimal number, in inbound requests and outbound calls.
TIMEOUT_HEADER = "Request-Timeout"
# Timers of the event loop may be early by this.
_TIMER_SECONDS = 0.01


class Limit(Protocol):
    """A limit on the queueing delay of a resource."""

    @property
    def shedding(self) -> bool:
        """Whether it refused a caller recently."""

    def would_wait_too_long(self) -> bool:
        """Tell whether one more caller would exceed the longest queueing delay."""

    def count_refusal(self) -> None:
        """Count a refused caller."""


class ServedRequest(Protocol):
    """A request that is being served."""

    # By `clock.now`; `None` once the answer has begun.
    deadline: float | None
    # Whether being late is the client's fault: it asked for less time, or its body was slow.
    by_client: bool
    # The last one that the request needed.
    queue_limit: Limit | None


_current: ContextVar[ServedRequest | None] = ContextVar("request", default=None)
# Tasks that are created while a request is served inherit it.
begin = _current.set


def deadline_within(seconds: float) -> float:
    """Return the deadline of work that may take `seconds`: that of the request, if sooner."""
    own, request = now() + seconds, _current.get()
    if request is None or request.deadline is None:
        return own
    return min(own, request.deadline)


def client_deadline_passed() -> bool:
    """Whether the deadline has passed, and that is the client's fault."""
    request = _current.get()
    if request is None or not request.by_client or request.deadline is None:
        return False
    return now() >= request.deadline - _TIMER_SECONDS


def note_queue_limit(queue_limit: Limit) -> None:
    """Note that the current request, if any, needs `queue_limit`."""
    request = _current.get()
    if request is not None:
        request.queue_limit = queue_limit


def without_deadline() -> Context:
    """Return a copy of the current context for work that outlives the request."""
    context = copy_context()
    context.run(_current.set, None)
    return context


def parse_timeout(header: str) -> float | None:
    """Return the seconds that a client allows, or `None` when that is no positive number."""
    try:
        seconds = float(header)
    except ValueError:
        return None
    # NaN is not greater than 0.
    return seconds if seconds > 0 else None
