"""Threads for blocking calls: a concurrency limit for each purpose, and its metrics."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, TypeVarTuple, Unpack
from weakref import WeakSet

import anyio.to_thread
import structlog
from anyio import CapacityLimiter

from slipway_kit.clock import now
from slipway_kit.errors import Overloaded
from slipway_kit.metrics.fast_paths import observer
from slipway_kit.metrics.instruments import Gauge, Histogram
from slipway_kit.overload.queue_limit import PoolState, QueueLimit

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
log = structlog.get_logger()

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
# Each call waits for the limiter of its purpose; anyio's own limit would count it twice.
_UNLIMITED = float("inf")


class ThreadPoolFull(Overloaded):
    """No thread became free in time."""

    detail = "Too many calls are waiting for a thread; try again soon."


class ThreadPools:
    """The thread limits of one worker; all share anyio's threads, which start on demand."""

    def __init__(
        self,
        default: CapacityLimiter,
        *,
        wait_seconds: float,
        clock: Callable[[], float] = now,
    ) -> None:
        self._limiters = {DEFAULT: default}
        self._wait_seconds, self._clock = wait_seconds, clock
        self._calls: set[asyncio.Task[Any]] = set()
        self._unlimited = CapacityLimiter(_UNLIMITED)

    def declare(self, purpose: str, *, threads: int) -> None:
        """Give one purpose its own limit, so that slow calls of it do not delay all others."""
        if purpose in self._limiters:
            raise ValueError(f"threads for {purpose} are declared twice")
        limiter = CapacityLimiter(threads)
        limiter.__class__ = _measuring(type(limiter), purpose, clock=self._clock)
        self._limiters[purpose] = limiter

    async def blocking(
        self, call: Callable[[Unpack[Ts]], T], *args: *Ts, purpose: str = DEFAULT
    ) -> T:
        """Return `call(*args)` from a thread: for a library that blocks.

        The call sees the caller's context variables. The default purpose shares the threads of
        plain `def` routes. Raises `ThreadPoolFull` (503) when no thread is free in time. A running
        call cannot be cancelled: it keeps its thread until it returns.
        """
        limiter, ticket = self._limiters[purpose], object()
        await self._acquire(limiter, ticket)
        task = asyncio.create_task(self._call(call, args))
        self._calls.add(task)
        task.add_done_callback(lambda _: limiter.release_on_behalf_of(ticket))
        task.add_done_callback(self._calls.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_log_late_error)
            raise

    async def drain(self, *, grace_seconds: float) -> None:
        """Wait for running calls up to `grace_seconds`; they cannot be cancelled."""
        if self._calls:
            _, late = await asyncio.wait(self._calls, timeout=grace_seconds)
            if late:
                log.warning("blocking calls left behind at shutdown", count=len(late))

    def sample(self) -> None:
        """Set the gauges."""
        for purpose, limiter in self._limiters.items():
            found = limiter.statistics()
            ACTIVE.labels(purpose).set(found.borrowed_tokens)
            TOTAL.labels(purpose).set(found.total_tokens)
            WAITING.labels(purpose).set(found.tasks_waiting)

    async def _acquire(self, limiter: CapacityLimiter, ticket: object) -> None:
        try:
            async with asyncio.timeout(self._wait_seconds):
                await limiter.acquire_on_behalf_of(ticket)
        except TimeoutError:
            raise ThreadPoolFull from None

    async def _call(self, call: Callable[..., T], args: tuple[Any, ...]) -> T:
        return await anyio.to_thread.run_sync(call, *args, limiter=self._unlimited)


@contextmanager
def measured(limiter: CapacityLimiter, *, clock: Callable[[], float] = now) -> Iterator[None]:
    """Measure the queueing delay of `limiter`, and refuse a task whose delay would be too long.

    A refused task gets `ThreadPoolFull` at once. The limiter of plain `def` routes is anyio's own
    and its instances take no attributes, so its class is replaced within the block.
    """
    plain = type(limiter)
    limiter.__class__ = _measuring(plain, DEFAULT, clock=clock)
    try:
        yield
    finally:
        limiter.__class__ = plain


def _measuring(
    plain: type[CapacityLimiter], purpose: str, *, clock: Callable[[], float]
) -> type[CapacityLimiter]:
    """Return a class for one limiter that measures and refuses."""
    observe = observer(QUEUE_SECONDS.labels(purpose))
    limiter: CapacityLimiter | None = None
    waiting = 0
    # Requests that have had a thread: FastAPI takes another one for their response.
    known: WeakSet[Any] = WeakSet()

    def pool_state() -> PoolState:
        free = limiter is None or limiter.available_tokens > 0
        return PoolState(free, 1 if limiter is None else int(limiter.total_tokens), waiting)

    queue_limit = QueueLimit(
        "threads" if purpose == DEFAULT else f"threads:{purpose}", pool_state, clock=clock
    )

    # `acquire` and `async with` call this.
    async def acquire_on_behalf_of(self: CapacityLimiter, borrower: object) -> None:
        nonlocal limiter, waiting
        limiter = self
        again = isinstance(borrower, asyncio.Task) and borrower in known
        if not again and queue_limit.refuses():
            raise ThreadPoolFull
        started, queues = clock(), not pool_state().free
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

    return type(
        "MeasuredLimiter",
        (plain,),
        {
            "__slots__": (),
            "acquire_on_behalf_of": acquire_on_behalf_of,
            "release_on_behalf_of": release_on_behalf_of,
        },
    )


def _move_to_front(limiter: CapacityLimiter, borrower: object) -> None:
    """Move a request to the front of the queue, because it has already used a thread.

    anyio has no public way to do this; under an unknown queue type the request waits its turn.
    """
    queue = getattr(limiter, "_wait_queue", None)
    if isinstance(queue, OrderedDict) and borrower in queue:
        queue.move_to_end(borrower, last=False)


def _log_late_error(call: asyncio.Task[Any]) -> None:
    """Log the error of a call whose caller was cancelled."""
    if not call.cancelled() and (error := call.exception()):
        log.error("blocking call failed after its caller was cancelled", exc_info=error)
