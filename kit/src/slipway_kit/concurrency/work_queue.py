"""A bounded in-memory queue whose items the same worker process handles later.

An item is handled at most once: a failed item is not retried, and a killed pod loses its queue.
Work that must survive belongs in a table or a broker.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import Context
from typing import Any, Generic, TypeVar

import structlog

from slipway_kit.clock import now
from slipway_kit.concurrency.tasks import drain
from slipway_kit.errors import Overloaded, Unavailable
from slipway_kit.metrics.instruments import Counter, Gauge, Histogram
from slipway_kit.request_context import without_deadline

T = TypeVar("T")
log = structlog.get_logger()

DEPTH = Gauge("queue_depth", "Items waiting in a queue, without those being handled.", ["queue"])
CAPACITY = Gauge("queue_capacity", "Items that a queue holds before it refuses more.", ["queue"])
WAIT = Histogram(
    "queue_wait_seconds",
    "Queueing delay: time from `put` to the start of handling an item.",
    ["queue"],
    buckets=(0.001, 0.01, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
)
ITEMS = Counter(
    "queue_items_total",
    "Items by outcome: done, failed, refused or abandoned (at shutdown).",
    ["queue", "outcome"],
)


class WorkQueue(Generic[T]):
    """At most `size` items wait; `workers` of them are handled at a time, in the order of arrival.

    `name` is a label of metrics and log lines: set it in code, never from a request. An item is
    handled in the context of the caller of `put`, so its log lines have the request id.
    """

    def __init__(
        self,
        name: str,
        handle: Callable[[T], Awaitable[object]],
        *,
        size: int,
        workers: int = 1,
        clock: Callable[[], float] = now,
    ) -> None:
        if size < 1 or workers < 1:
            raise ValueError(f"queue {name} needs a size and workers of at least 1")
        self.name = name
        self._handle, self._size, self._workers, self._clock = handle, size, workers, clock
        self._waiting: deque[tuple[T, float, Context]] = deque()
        self._running: set[asyncio.Task[Any]] = set()
        self._open, self._gave_up = False, False
        self._abandoned = 0

    def put(self, item: T) -> None:
        """Add `item`, or raise `Overloaded` or `Unavailable`, both 503."""
        if not self._open:
            self._count("refused")
            raise Unavailable(f"The queue {self.name} accepts no work now; try again soon.")
        if len(self._waiting) >= self._size:
            self._count("refused")
            raise Overloaded(f"The queue {self.name} is full ({self._size} items); try again soon.")
        self._waiting.append((item, self._clock(), without_deadline()))
        self._start()

    def __len__(self) -> int:
        """Count the waiting items."""
        return len(self._waiting)

    @asynccontextmanager
    async def running(self, *, grace_seconds: float) -> AsyncIterator[None]:
        """Handle items while the block runs, then drain the queue within `grace_seconds`.

        Items left after that, or when the drain is cancelled, are abandoned: cancelled, counted and
        reported by one log line.
        """
        self._open, self._gave_up, self._abandoned = True, False, 0
        CAPACITY.labels(self.name).set(self._size)
        try:
            yield
        finally:
            self._open = False
            try:
                await drain(self._running, grace_seconds=grace_seconds, give_up=self._give_up)
            finally:
                CAPACITY.labels(self.name).set(0)
                if self._abandoned:
                    log.error("queued work abandoned", queue=self.name, items=self._abandoned)

    def _start(self) -> None:
        """Start handling items up to the concurrency limit."""
        while self._waiting and len(self._running) < self._workers:
            item, since, context = self._waiting.popleft()
            WAIT.labels(self.name).observe(self._clock() - since)
            # A task for each item: its failure cannot stop the queue.
            task = asyncio.create_task(self._outcome(item), context=context)
            self._running.add(task)
            task.add_done_callback(self._ended)
        DEPTH.labels(self.name).set(len(self._waiting))

    async def _outcome(self, item: T) -> str:
        try:
            await self._handle(item)
        except Exception:
            log.exception("queued work failed", queue=self.name)
            return "failed"
        except asyncio.CancelledError:
            if self._gave_up:
                raise
            log.exception("queued work cancelled itself", queue=self.name)
            return "failed"
        return "done"

    def _ended(self, task: asyncio.Task[str]) -> None:
        self._running.discard(task)
        self._count("abandoned" if task.cancelled() else task.result())
        self._start()

    def _give_up(self) -> None:
        self._gave_up = True
        while self._waiting:
            self._waiting.pop()
            self._count("abandoned")
        self._start()

    def _count(self, outcome: str) -> None:
        ITEMS.labels(self.name, outcome).inc()
        self._abandoned += outcome == "abandoned"
