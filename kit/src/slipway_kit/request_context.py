"""The request that is being served, for what knows nothing of requests.

What it waits for gets what is left of its time, and says so to the services that it asks.
"""

from contextvars import Context, ContextVar, copy_context
from typing import Protocol

from slipway_kit.clock import now

# Seconds as a decimal number, in a request that comes in and in calls that go out.
HEADER = "Request-Timeout"


class Limit(Protocol):
    """What bounds how many use something at once, and may refuse one more."""

    @property
    def pressed(self) -> bool:
        """Whether it has refused somebody of late."""

    def would_wait_too_long(self) -> bool:
        """Tell whether one more would wait for too long."""

    def count(self) -> None:
        """Count one that was refused."""


class ServedRequest(Protocol):
    """A request that is being served."""

    # Until when, by `clock.now`; `None` once it makes no difference any more.
    due: float | None
    # The last queue limit that it came to.
    queue_limit: Limit | None


_current: ContextVar[ServedRequest | None] = ContextVar("served", default=None)
# Of the task that serves a request, and of those that it makes.
begin = _current.set


def due_within(seconds: float) -> float:
    """Return when something must be over that may take `seconds`, by `clock.now`.

    It is the deadline of the request if that comes first; work without a request has none.
    """
    own, served = now() + seconds, _current.get()
    if served is None or served.due is None:
        return own
    return min(own, served.due)


def came_to(queue_limit: Limit) -> None:
    """Note that the request came to a queue limit; work without a request does."""
    served = _current.get()
    if served is not None:
        served.queue_limit = queue_limit


def outliving() -> Context:
    """Return the current context without its deadline, for work that goes on after the answer."""
    context = copy_context()
    context.run(_current.set, None)
    return context


def seconds_asked(header: str) -> float | None:
    """Return what a client allows, or `None` when that is no positive number."""
    try:
        seconds = float(header)
    except ValueError:
        return None
    # Comparisons with what is not a number are false.
    return seconds if seconds > 0 else None
