"""Batches look-ups: the keys requested within a few milliseconds are loaded together.

A load runs in its own task, without the request id or trace of any caller. A caller joins a key
only until its load starts, so no answer is older than its request.
"""

import asyncio
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Hashable,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from typing import Any, Generic, Protocol, TypeVar

import structlog
from opentelemetry.trace import get_current_span

from slipway_kit.clock import now
from slipway_kit.concurrency.sharing import Shared, mark_failed, start_shared, within
from slipway_kit.concurrency.tasks import drain
from slipway_kit.errors import DeadlineExceeded, Overloaded, ServiceError, Unavailable
from slipway_kit.metrics.instruments import Counter, Histogram

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
log = structlog.get_logger()

SIZE = Histogram(
    "batch_size",
    "Distinct keys in one load.",
    ["batcher"],
    buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000),
)
WAIT = Histogram(
    "batch_wait_seconds",
    "Time from the first key of a batch to the start of its load.",
    ["batcher"],
    buckets=(0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5),
)
KEYS = Counter(
    "batch_keys_total",
    "Keys by outcome: found, missing, failed, left (no caller waits any more) or refused.",
    ["batcher", "outcome"],
)


class BatcherFull(Overloaded):
    """The maximum number of keys is waiting already."""


class BatcherClosed(Unavailable):
    """The batcher accepts no keys before the service has started or after it has stopped."""


class LoadTooSlow(DeadlineExceeded):
    """A load exceeded its time limit."""


class Timer(Protocol):
    """The handle of a scheduled call."""

    def cancel(self) -> None:
        """Cancel the call."""


class Batcher(Generic[K, V]):
    """Loads the keys of one window together, each once, whatever the number of callers.

    The window opens at the first key and lasts `window_seconds`; `max_size` keys end it at once.
    While `max_loads` loads run, the next batch grows up to `max_waiting` keys. A load may take
    `load_seconds`. `name` is a metric label: set it in code, never from a request.
    """

    def __init__(  # noqa: PLR0913 (bounds of one thing, each with a default)
        self,
        name: str,
        load: Callable[[Sequence[K]], Awaitable[Mapping[K, V]]],
        *,
        window_seconds: float = 0.01,
        max_size: int = 100,
        max_loads: int = 4,
        max_waiting: int = 1000,
        load_seconds: float = 5,
        schedule: Callable[[float, Callable[[], None]], Timer] | None = None,
        clock: Callable[[], float] = now,
    ) -> None:
        self.name = name
        self._load, self._load_seconds = load, load_seconds
        self._window_seconds, self._max_size = window_seconds, max_size
        self._max_loads, self._max_waiting = max_loads, max_waiting
        self._schedule, self._clock = schedule or _call_later, clock
        self._pending: dict[K, _PendingKey[V]] = {}
        self._loads: set[asyncio.Task[Any]] = set()
        self._timer: Timer | None = None
        self._due = self._open = False

    async def get(self, key: K) -> V | None:
        """Return the value of `key`, or `None` when the load found none.

        Raises the error of the load, `LoadTooSlow` (504), `BatcherFull` or `BatcherClosed` (503).
        """
        pending = self._pending_key(key)
        answer = pending.add_waiter()
        self._start_loads()
        try:
            return await answer
        except asyncio.CancelledError:
            self._caller_left(key, pending)
            raise

    @asynccontextmanager
    async def running(self, *, grace_seconds: float = 5) -> AsyncIterator[None]:
        """Accept keys while the block runs, then load the pending ones within `grace_seconds`."""
        self._open = True
        try:
            yield
        finally:
            self._open = False
            self._end_window()
            cut = await drain(self._loads, grace_seconds=grace_seconds, give_up=self._fail_pending)
            if cut:
                log.warning("batches cancelled at shutdown", batcher=self.name, loads=len(cut))

    def _pending_key(self, key: K) -> "_PendingKey[V]":
        if not self._open:
            self._count("refused")
            raise BatcherClosed(f"Look-ups of {self.name} are not available now; try again soon.")
        if key in self._pending:
            return self._pending[key]
        if len(self._pending) >= self._max_waiting:
            self._count("refused")
            raise BatcherFull(f"Too many look-ups of {self.name} are waiting; try again soon.")
        if not self._pending:
            self._timer = self._schedule(self._window_seconds, self._end_window)
        pending = self._pending[key] = _PendingKey(self._clock())
        return pending

    def _caller_left(self, key: K, pending: "_PendingKey[V]") -> None:
        """Drop a key without waiters, unless its load has started."""
        if self._pending.get(key) is pending and not pending.has_waiters:
            del self._pending[key]
            self._count("left")
            self._close_empty_window()

    def _end_window(self) -> None:
        self._due = True
        self._start_loads()

    def _close_empty_window(self) -> None:
        if self._pending:
            return
        self._due = False
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _start_loads(self) -> None:
        while (
            self._pending
            and (self._due or len(self._pending) >= self._max_size)
            and len(self._loads) < self._max_loads
        ):
            if batch := self._take():
                self._start_load(batch)
        self._close_empty_window()

    def _take(self) -> "dict[K, _PendingKey[V]]":
        """Remove up to `max_size` keys for a load; drop those without waiters."""
        batch: dict[K, _PendingKey[V]] = {}
        while self._pending and len(batch) < self._max_size:
            key = next(iter(self._pending))
            pending = self._pending.pop(key)
            if pending.has_waiters:
                batch[key] = pending
            else:
                self._count("left")
        return batch

    def _start_load(self, batch: "dict[K, _PendingKey[V]]") -> None:
        SIZE.labels(self.name).observe(len(batch))
        first = min(pending.since for pending in batch.values())
        WAIT.labels(self.name).observe(self._clock() - first)
        callers = [each for pending in batch.values() for each in pending.callers]
        task = start_shared(
            self._run_load(batch), name=f"batch {self.name}", callers=callers, batcher=self.name
        )
        self._loads.add(task)
        task.add_done_callback(self._load_ended)

    def _load_ended(self, task: asyncio.Task[None]) -> None:
        self._loads.discard(task)
        self._start_loads()

    async def _run_load(self, batch: "dict[K, _PendingKey[V]]") -> None:
        try:
            values = await self._load_values(tuple(batch))
        except Exception as error:
            mark_failed(get_current_span(), error)
            bug = None if isinstance(error, ServiceError) else error
            log.warning("batch failed", keys=len(batch), error=type(error).__name__, exc_info=bug)
            self._fail(batch.values(), error)
        except asyncio.CancelledError:
            self._fail(batch.values(), self._cancelled())
            raise
        else:
            for key, pending in batch.items():
                self._count("found" if key in values else "missing")
                pending.resolve(values.get(key))

    async def _load_values(self, keys: Sequence[K]) -> Mapping[K, V]:
        timeout_error = LoadTooSlow(f"The load of {self.name} took too long.")
        found = await within(self._load_seconds, self._load(keys), timeout_error)
        if not isinstance(found, Mapping):
            raise TypeError(
                f"the load of {self.name} returned {type(found).__name__}, not a mapping"
            )
        return found

    def _fail(self, batch: "Iterable[_PendingKey[V]]", error: Exception) -> None:
        for pending in batch:
            self._count("failed")
            pending.reject(error)

    def _fail_pending(self) -> None:
        waiting, self._pending = self._pending, {}
        self._fail(waiting.values(), self._cancelled())
        self._close_empty_window()

    def _cancelled(self) -> BatcherClosed:
        return BatcherClosed(f"The load of {self.name} was cancelled.")

    def _count(self, outcome: str) -> None:
        KEYS.labels(self.name, outcome).inc()


class _PendingKey(Shared[V | None]):
    """The value of one key, and the time of its first request."""

    def __init__(self, since: float) -> None:
        super().__init__()
        self.since = since


def _call_later(seconds: float, call: Callable[[], None]) -> Timer:
    return asyncio.get_running_loop().call_later(seconds, call)
