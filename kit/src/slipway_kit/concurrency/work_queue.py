"""A bounded queue whose items are worked off later, a few at a time, by the same worker process.

It lives in memory, and an item is handled at most once: one that fails is not tried again, and a
killed pod loses what it had not finished. Work that must survive belongs in a table or a broker.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import Context
from typing import Generic, NamedTuple, TypeVar

import structlog

from slipway_kit.errors import Overloaded, Unavailable
from slipway_kit.metrics.instruments import Counter, Gauge, Histogram
from slipway_kit.request_context import outliving

T = TypeVar("T")
log = structlog.get_logger()

DEPTH = Gauge(
    "queue_depth",
    "Items that wait in a queue, without those being handled.",
    ["queue"],
    multiprocess_mode="livesum",
)
CAPACITY = Gauge(
    "queue_capacity",
    "Items that a queue takes before it refuses more.",
    ["queue"],
    multiprocess_mode="livesum",
)
WAIT = Histogram(
    "queue_wait_seconds",
    "Time from putting an item into a queue to the start of its handling.",
    ["queue"],
    buckets=(0.001, 0.01, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
)
ITEMS = Counter(
    "queue_items_total",
    "Items by what became of them: done, failed, refused or abandoned.",
    ["queue", "outcome"],
)


class QueueFull(Overloaded):
    """The queue holds as many items as it may."""


class QueueClosed(Unavailable):
    """The queue takes nothing before the service has started or while it leaves."""


class WorkQueue(Generic[T]):
    """At most `size` items wait; `workers` of them are handled at a time, in the order of arrival.

    `name` is a label of metrics and log lines: give it in code, never from a request. An item is
    handled in the context of whoever put it, so that its log lines have the request's id.
    """

    def __init__(
        self,
        name: str,
        handle: Callable[[T], Awaitable[object]],
        *,
        size: int,
        workers: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if size < 1 or workers < 1:
            raise ValueError(f"queue {name} needs a size and workers of at least 1")
        self.name = name
        self._handle, self._size, self._workers, self._clock = handle, size, workers, clock
        self._queue: asyncio.Queue[_Entry[T]] = asyncio.Queue(size)
        self._open = False
        self._abandoned = 0

    def put(self, item: T) -> None:
        """Leave `item` to the workers, or raise `QueueFull` or `QueueClosed`, both 503."""
        if not self._open:
            self._count("refused")
            raise QueueClosed(f"The queue {self.name} takes no work now; try again soon.")
        entry = _Entry(item, self._clock(), outliving())
        try:
            self._queue.put_nowait(entry)
        except asyncio.QueueFull:
            self._count("refused")
            raise QueueFull(
                f"The queue {self.name} is full, {self._size} items wait; try again soon."
            ) from None
        self._show_depth()

    def __len__(self) -> int:
        """Count the items that wait."""
        return self._queue.qsize()

    @asynccontextmanager
    async def running(self, *, grace_seconds: float) -> AsyncIterator[None]:
        """Work while the block runs, then take nothing new and finish the rest in `grace_seconds`.

        What is left then, or when the wait is cancelled, is abandoned: cancelled, counted and
        reported by one log line.
        """
        workers = [
            asyncio.create_task(self._work(), name=f"queue {self.name}")
            for _ in range(self._workers)
        ]
        self._open, self._abandoned = True, 0
        CAPACITY.labels(self.name).set(self._size)
        try:
            yield
        finally:
            self._open = False
            try:
                await self._finish(grace_seconds)
            finally:
                await self._stop(workers)

    async def _finish(self, grace_seconds: float) -> None:
        try:
            async with asyncio.timeout(grace_seconds):
                await self._queue.join()
        except TimeoutError:
            log.warning("queue outlasts its grace", queue=self.name, grace_seconds=grace_seconds)

    async def _stop(self, workers: list[asyncio.Task[None]]) -> None:
        while not self._queue.empty():
            self._queue.get_nowait()
            self._queue.task_done()
            self._abandon()
        for worker in workers:
            worker.cancel()
        try:
            await asyncio.gather(*workers, return_exceptions=True)
        finally:
            self._show_depth()
            CAPACITY.labels(self.name).set(0)
            if self._abandoned:
                log.error("queued work abandoned", queue=self.name, items=self._abandoned)

    async def _work(self) -> None:
        while True:
            entry = await self._queue.get()
            self._show_depth()
            try:
                await self._answer_for(entry)
            finally:
                self._queue.task_done()

    async def _answer_for(self, entry: "_Entry[T]") -> None:
        """Handle one item in a task of its own: whatever it does, the worker goes on."""
        WAIT.labels(self.name).observe(self._clock() - entry.since)
        task = asyncio.create_task(self._outcome(entry.item), context=entry.context)
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            task.cancel()
            try:
                await asyncio.wait({task})
            finally:
                self._judge(task, leaving=True)
            raise
        self._judge(task, leaving=False)

    async def _outcome(self, item: T) -> str:
        try:
            await self._handle(item)
        except Exception:
            log.exception("queued work failed", queue=self.name)
            return "failed"
        return "done"

    def _judge(self, task: asyncio.Task[str], *, leaving: bool) -> None:
        if task.done() and not task.cancelled():
            self._count(task.result())
        elif leaving:
            self._abandon()
        else:
            log.error("queued work cancelled itself", queue=self.name)
            self._count("failed")

    def _abandon(self) -> None:
        self._abandoned += 1
        self._count("abandoned")

    def _count(self, outcome: str) -> None:
        ITEMS.labels(self.name, outcome).inc()

    def _show_depth(self) -> None:
        DEPTH.labels(self.name).set(self._queue.qsize())


class _Entry(NamedTuple, Generic[T]):
    item: T
    since: float
    context: Context
