"""Batches look-ups: the keys requested within a few milliseconds are loaded together.

A load runs in its own task, without the request id or trace of any caller. A caller joins a key
only until its load starts, so no answer is older than its request.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Generic, TypeVar

import structlog

from slipway_kit.clock import now
from slipway_kit.concurrency.sharing import Shared, start_shared, within
from slipway_kit.concurrency.tasks import drain
from slipway_kit.errors import Overloaded, ServiceError, Unavailable
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
        schedule: Callable[[float, Callable[[], None]], asyncio.TimerHandle] | None = None,
        clock: Callable[[], float] = now,
    ) -> None:
        self.name = name
        self._load, self._load_seconds = load, load_seconds
        self._window_seconds, self._max_size = window_seconds, max_size
        self._max_loads, self._max_waiting = max_loads, max_waiting
        self._schedule, self._clock = schedule, clock
        self._pending: dict[K, Shared[V | None]] = {}
        self._loads: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._window_ended = self._open = False

    async def get(self, key: K) -> V | None:
        """Return the value of `key`, or `None` when the load found none.

        Raises the error of the load, `DeadlineExceeded` (504) when it takes too long, `Overloaded`
        or `Unavailable` (503).
        """
        answer = (self._pending.get(key) or self._add(key)).add_waiter()
        self._start_loads()
        return await answer

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

    def _add(self, key: K) -> Shared[V | None]:
        if not self._open:
            self._count("refused")
            raise Unavailable(f"Look-ups of {self.name} are not available now; try again soon.")
        if len(self._pending) >= self._max_waiting:
            self._count("refused")
            raise Overloaded(f"Too many look-ups of {self.name} are waiting; try again soon.")
        if not self._pending:
            schedule = self._schedule or asyncio.get_running_loop().call_later
            self._timer = schedule(self._window_seconds, self._end_window)
        pending = self._pending[key] = Shared(self._clock())
        return pending

    def _end_window(self) -> None:
        self._window_ended = True
        self._start_loads()

    def _start_loads(self) -> None:
        while (
            self._pending
            and (self._window_ended or len(self._pending) >= self._max_size)
            and len(self._loads) < self._max_loads
        ):
            if batch := self._take():
                self._start_load(batch)
        if not self._pending:
            self._window_ended = False
            if self._timer:
                self._timer.cancel()

    def _take(self) -> dict[K, Shared[V | None]]:
        """Remove up to `max_size` keys for a load; drop those without waiters."""
        batch: dict[K, Shared[V | None]] = {}
        while self._pending and len(batch) < self._max_size:
            key = next(iter(self._pending))
            pending = self._pending.pop(key)
            if pending.has_waiters:
                batch[key] = pending
            else:
                self._count("left")
        return batch

    def _start_load(self, batch: dict[K, Shared[V | None]]) -> None:
        SIZE.labels(self.name).observe(len(batch))
        first = next(iter(batch.values()))
        WAIT.labels(self.name).observe(self._clock() - first.since)
        task = start_shared(
            self._load_values(tuple(batch)),
            name=f"batch {self.name}",
            callers=[caller for pending in batch.values() for caller in pending.callers],
            ended=partial(self._load_ended, batch),
            batcher=self.name,
        )
        self._loads.add(task)

    async def _load_values(self, keys: Sequence[K]) -> Mapping[K, V]:
        name = f"load of {self.name}"
        found = await within(self._load_seconds, self._load(keys), name=name)
        if not isinstance(found, Mapping):
            raise TypeError(f"the {name} returned {type(found).__name__}, not a mapping")
        return found

    def _load_ended(
        self, batch: dict[K, Shared[V | None]], task: asyncio.Task[Mapping[K, V]]
    ) -> None:
        self._loads.discard(task)
        if task.cancelled():
            self._fail(batch, Unavailable(f"The load of {self.name} was cancelled."))
        elif error := task.exception():
            bug = None if isinstance(error, ServiceError) else error
            log.warning("batch failed", keys=len(batch), error=type(error).__name__, exc_info=bug)
            self._fail(batch, error)
        else:
            values = task.result()
            for key, pending in batch.items():
                self._count("found" if key in values else "missing")
                pending.resolve(values.get(key))
        self._start_loads()

    def _fail_pending(self) -> None:
        waiting, self._pending = self._pending, {}
        self._fail(waiting, Unavailable(f"The load of {self.name} was cancelled."))

    def _fail(self, batch: dict[K, Shared[V | None]], error: BaseException) -> None:
        for pending in batch.values():
            self._count("failed")
            pending.reject(error)

    def _count(self, outcome: str) -> None:
        KEYS.labels(self.name, outcome).inc()
