"""Keep the event loop free: threads for calls that block, processes for calls that compute.

A process costs 41 ms at its first call and 14 MiB of resident memory (9 MiB unshared); a later call
costs 0.1 ms (measured with uvloop, Python 3.11, two cores).
"""

import asyncio
import pickle
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any, TypeVar, TypeVarTuple, Unpack
from weakref import WeakSet

import anyio.to_thread
import structlog
from anyio import CapacityLimiter

from slipway_kit.clock import now
from slipway_kit.concurrency.process_pool import OffloadSettings, ProcessPool
from slipway_kit.errors import Overloaded
from slipway_kit.metrics import instruments
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


class ThreadPoolFull(Overloaded):
    """No thread became free in time."""

    detail = "Too many calls are waiting for a thread; try again soon."


class Offload:
    """Runs calls outside the event loop of one worker, in threads and processes.

    All purposes share anyio's threads, which start on demand; each has its own limit.
    """

    def __init__(
        self,
        threads: CapacityLimiter,
        processes: ProcessPool,
        *,
        wait_seconds: float,
        clock: Callable[[], float] = now,
    ) -> None:
        self._limiters = {DEFAULT: threads}
        self._processes, self._wait_seconds, self._clock = processes, wait_seconds, clock
        self._calls: set[asyncio.Task[Any]] = set()
        # Each call waits for the limiter of its purpose; anyio's own limit would count it twice.
        self._unlimited = CapacityLimiter(float("inf"))

    def declare(self, purpose: str, *, threads: int) -> None:
        """Give one purpose its own limit, so that slow calls of it do not delay all others."""
        if purpose in self._limiters:
            raise ValueError(f"threads for {purpose} are declared twice")
        limiter = self._limiters[purpose] = CapacityLimiter(threads)
        _measure(limiter, purpose, clock=self._clock)

    async def blocking(
        self, call: Callable[[Unpack[Ts]], T], *args: *Ts, purpose: str = DEFAULT
    ) -> T:
        """Return `call(*args)` from a thread: for a library that blocks.

        The call sees the caller's context variables. The default purpose shares the threads of
        plain `def` routes. Raises `ThreadPoolFull` (503) when no thread is free in time. A running
        call cannot be cancelled: it keeps its thread until it returns.
        """
        limiter, ticket = self._limiters[purpose], object()
        try:
            async with asyncio.timeout(self._wait_seconds):
                await limiter.acquire_on_behalf_of(ticket)
        except TimeoutError:
            raise ThreadPoolFull from None
        work = anyio.to_thread.run_sync(call, *args, limiter=self._unlimited)
        task = asyncio.create_task(work)
        self._calls.add(task)
        task.add_done_callback(lambda _: limiter.release_on_behalf_of(ticket))
        task.add_done_callback(self._calls.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_log_late_error)
            raise

    async def compute(self, call: Callable[[Unpack[Ts]], T], *args: *Ts) -> T:
        """Return `call(*args)` from another process: for CPU work longer than a millisecond.

        Call, arguments and result are pickled, so `call` is a module-level function; its module
        should import little. Its exceptions are raised here. Raises `Overloaded` (503) when too
        many calls wait, `DeadlineExceeded` (504) after PROCESS_POOL_TIMEOUT_SECONDS, `Unavailable`
        (503) when the process died, and `NotPicklable`.
        """
        return await self._processes.run(call, *args)

    async def drain(self, *, grace_seconds: float) -> None:
        """Wait for running blocking calls up to `grace_seconds`; they cannot be cancelled."""
        if self._calls:
            _, late = await asyncio.wait(self._calls, timeout=grace_seconds)
            if late:
                log.warning("blocking calls left behind at shutdown", count=len(late))

    def sample(self) -> None:
        """Set the gauges of the threads, and drop idle processes that died."""
        for purpose, limiter in self._limiters.items():
            ACTIVE.labels(purpose).set(limiter.borrowed_tokens)
            TOTAL.labels(purpose).set(limiter.total_tokens)
            WAITING.labels(purpose).set(limiter.statistics().tasks_waiting)
        self._processes.sample()


@asynccontextmanager
async def open_offload(
    settings: OffloadSettings,
    *,
    threads_wait_seconds: float = 2,
    grace_seconds: float = 1,
    prepare: Callable[[], object] | None = None,
) -> AsyncIterator[Offload]:
    """Yield an `Offload`; at the end running calls get `grace_seconds`, then processes are killed.

    Each process calls `prepare`, which sets up its logs, before its first job that can log.
    """
    threads = anyio.to_thread.current_default_thread_limiter()
    processes = ProcessPool(settings, prepare=prepare and pickle.dumps(prepare))
    offload = Offload(threads, processes, wait_seconds=threads_wait_seconds)
    async with AsyncExitStack() as stack:
        stack.enter_context(measured(threads))
        stack.push_async_callback(processes.close, grace_seconds=grace_seconds)
        stack.push_async_callback(offload.drain, grace_seconds=grace_seconds)
        yield offload


def _log_late_error(call: asyncio.Task[Any]) -> None:
    """Log the error of a call whose caller was cancelled."""
    if not call.cancelled() and (error := call.exception()):
        log.error("blocking call failed after its caller was cancelled", exc_info=error)


@contextmanager
def measured(limiter: CapacityLimiter, *, clock: Callable[[], float] = now) -> Iterator[None]:
    """Measure and limit the queueing delay of anyio's own limiter within the block."""
    plain = type(limiter)
    _measure(limiter, DEFAULT, clock=clock)
    try:
        yield
    finally:
        limiter.__class__ = plain


def _measure(limiter: CapacityLimiter, purpose: str, *, clock: Callable[[], float] = now) -> None:
    """Measure the queueing delay of `limiter`, and refuse a task whose delay would be too long.

    A refused task gets `ThreadPoolFull` at once. Instances take no attributes, so this replaces the
    class.
    """
    plain = type(limiter)
    observe = instruments.observer(QUEUE_SECONDS.labels(purpose))
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
