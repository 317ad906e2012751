"""The limit on threads for blocking calls, with its metrics."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

from anyio import CapacityLimiter

from slipway_kit.clock import now
from slipway_kit.errors import Overloaded
from slipway_kit.metrics.fast_paths import observer
from slipway_kit.metrics.instruments import Gauge, Histogram
from slipway_kit.overload.queue_limit import PoolState, QueueLimit

DEFAULT = "default"
ACTIVE = Gauge(
    "thread_pool_active_threads", "Threads that are running a blocking call.", ["purpose"]
)
TOTAL = Gauge("thread_pool_total_threads", "Threads that may run at once.", ["purpose"])
WAITING = Gauge("thread_pool_waiting_tasks", "Calls that are waiting for a thread.", ["purpose"])
QUEUE_SECONDS = Histogram(
    "thread_pool_queue_seconds",
    "Queueing delay of a blocking call or a plain def route, waiting for a thread.",
    ["purpose"],
    buckets=(0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5),
)


class ThreadPoolFull(Overloaded):
    """No thread became free in time."""

    detail = "Too many calls are waiting for a thread; try again soon."


@contextmanager
def measured(limiter: CapacityLimiter, *, clock: Callable[[], float] = now) -> Iterator[None]:
    """Measure and limit the queueing delay of anyio's own limiter within the block."""
    plain = type(limiter)
    measure(limiter, DEFAULT, clock=clock)
    try:
        yield
    finally:
        limiter.__class__ = plain


def measure(limiter: CapacityLimiter, purpose: str, *, clock: Callable[[], float] = now) -> None:
    """Measure the queueing delay of `limiter`, and refuse a task whose delay would be too long.

    A refused task gets `ThreadPoolFull` at once. Instances take no attributes, so this replaces the
    class.
    """
    plain = type(limiter)
    observe = observer(QUEUE_SECONDS.labels(purpose))
    waiting = 0
    # Requests that have had a thread: FastAPI takes another one for their response.
    known: WeakSet[Any] = WeakSet()

    def pool_state() -> PoolState:
        return PoolState(limiter.available_tokens > 0, int(limiter.total_tokens), waiting)

    name = "threads" if purpose == DEFAULT else f"threads:{purpose}"
    queue_limit = QueueLimit(name, pool_state, clock=clock)

    # `acquire` and `async with` call this.
    async def acquire_on_behalf_of(self: CapacityLimiter, borrower: object) -> None:
        nonlocal waiting
        again = isinstance(borrower, asyncio.Task) and borrower in known
        if not again and queue_limit.refuses():
            raise ThreadPoolFull
        started, queues = clock(), self.available_tokens <= 0
        waiting += queues
        if again and queues:
            asyncio.get_running_loop().call_soon(_move_to_front, self, borrower)
        try:
            await plain.acquire_on_behalf_of(self, borrower)
        finally:
            waiting -= queues
            observe(clock() - started)
        queue_limit.acquired(self.borrowed_tokens)
        if isinstance(borrower, asyncio.Task):
            known.add(borrower)

    def release_on_behalf_of(self: CapacityLimiter, borrower: object) -> None:
        plain.release_on_behalf_of(self, borrower)
        queue_limit.released(self.borrowed_tokens)

    methods = {
        "__slots__": (),
        "acquire_on_behalf_of": acquire_on_behalf_of,
        "release_on_behalf_of": release_on_behalf_of,
    }
    limiter.__class__ = type("MeasuredLimiter", (plain,), methods)


def _move_to_front(limiter: CapacityLimiter, borrower: object) -> None:
    """Move a request to the front of the queue, because it has already used a thread.

    anyio has no public way to do this; under an unknown queue type the request waits its turn.
    """
    queue = getattr(limiter, "_wait_queue", None)
    if isinstance(queue, OrderedDict) and borrower in queue:
        queue.move_to_end(borrower, last=False)
