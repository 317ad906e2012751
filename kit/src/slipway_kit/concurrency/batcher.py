"""Many look-ups that arrive together become one: the keys of some milliseconds are loaded at once.

A load belongs to no single request: it runs in a task of its own, without the request id or trace
of any caller. A key is joined only until its load begins, so nobody gets an answer that is older
than the question.
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
    "Different keys that one load was asked for.",
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
    "Keys by what became of them: found, missing, failed, left by every caller, or refused.",
    ["batcher", "outcome"],
)


class BatcherFull(Overloaded):
    """As many different keys wait as may."""


class BatcherClosed(Unavailable):
    """The batcher answers nothing before the service has started or after it left."""


class LoadTooSlow(DeadlineExceeded):
    """A load took longer than it may."""


class Timer(Protocol):
    """What a scheduler gives to call something off."""

    def cancel(self) -> None:
        """Do not call."""


class Batcher(Generic[K, V]):
    """Loads the keys of one window together, each once, however many callers ask for it.

    The window opens at the first key and lasts `window_seconds`; `max_size` keys end it at once.
    While `max_loads` loads run the next batch grows, up to `max_waiting` keys. A load may take
    `load_seconds`. `name` is a label: give it in code, never from a request. Nothing runs or polls
    while nobody asks.
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
        self._wanted: dict[K, _Wanted[V]] = {}
        self._loads: set[asyncio.Task[Any]] = set()
        self._timer: Timer | None = None
        self._due = self._open = False

    async def get(self, key: K) -> V | None:
        """Return the value of `key`, or `None` when the load knows none.

        Raises the error of the load, `LoadTooSlow` (504), `BatcherFull` or `BatcherClosed` (503).
        """
        wanted = self._want(key)
        answer = wanted.ask()
        self._start_loads()
        try:
            return await answer
        except asyncio.CancelledError:
            self._leave(key, wanted)
            raise

    @asynccontextmanager
    async def running(self, *, grace_seconds: float = 5) -> AsyncIterator[None]:
        """Answer while the block runs; then load at once what waits, within `grace_seconds`."""
        self._open = True
        try:
            yield
        finally:
            self._open = False
            self._window_ends()
            late = await drain(self._loads, grace_seconds=grace_seconds, give_up=self._give_up)
            if late:
                log.warning("batches cut off at shutdown", batcher=self.name, loads=len(late))

    def _want(self, key: K) -> "_Wanted[V]":
        if not self._open:
            self._count("refused")
            raise BatcherClosed(f"The look-ups of {self.name} are closed now; try again soon.")
        if key in self._wanted:
            return self._wanted[key]
        if len(self._wanted) >= self._max_waiting:
            self._count("refused")
            raise BatcherFull(f"Too many look-ups of {self.name} wait; try again soon.")
        if not self._wanted:
            self._timer = self._schedule(self._window_seconds, self._window_ends)
        wanted = self._wanted[key] = _Wanted(self._clock())
        return wanted

    def _leave(self, key: K, wanted: "_Wanted[V]") -> None:
        """Forget a key that nobody waits for any more, unless it is being loaded already."""
        if self._wanted.get(key) is wanted and not wanted.wanted:
            del self._wanted[key]
            self._count("left")
            self._close_empty_window()

    def _window_ends(self) -> None:
        self._due = True
        self._start_loads()

    def _close_empty_window(self) -> None:
        if self._wanted:
            return
        self._due = False
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _start_loads(self) -> None:
        while (
            self._wanted
            and (self._due or len(self._wanted) >= self._max_size)
            and len(self._loads) < self._max_loads
        ):
            if batch := self._take():
                self._start_load(batch)
        self._close_empty_window()

    def _take(self) -> "dict[K, _Wanted[V]]":
        """Remove up to `max_size` keys for a load, and drop those whose last caller is leaving."""
        batch: dict[K, _Wanted[V]] = {}
        while self._wanted and len(batch) < self._max_size:
            key = next(iter(self._wanted))
            wanted = self._wanted.pop(key)
            if wanted.wanted:
                batch[key] = wanted
            else:
                self._count("left")
        return batch

    def _start_load(self, batch: "dict[K, _Wanted[V]]") -> None:
        SIZE.labels(self.name).observe(len(batch))
        first = min(wanted.since for wanted in batch.values())
        WAIT.labels(self.name).observe(self._clock() - first)
        callers = [each for wanted in batch.values() for each in wanted.callers]
        task = start_shared(
            self._answer(batch), name=f"batch {self.name}", callers=callers, batcher=self.name
        )
        self._loads.add(task)
        task.add_done_callback(self._load_ended)

    def _load_ended(self, task: asyncio.Task[None]) -> None:
        self._loads.discard(task)
        self._start_loads()

    async def _answer(self, batch: "dict[K, _Wanted[V]]") -> None:
        try:
            values = await self._values(tuple(batch))
        except Exception as error:
            mark_failed(get_current_span(), error)
            bug = None if isinstance(error, ServiceError) else error
            log.warning("batch failed", keys=len(batch), error=type(error).__name__, exc_info=bug)
            self._fail(batch.values(), error)
        except asyncio.CancelledError:
            self._fail(batch.values(), self._cut())
            raise
        else:
            for key, wanted in batch.items():
                self._count("found" if key in values else "missing")
                wanted.resolve(values.get(key))

    async def _values(self, keys: Sequence[K]) -> Mapping[K, V]:
        late = LoadTooSlow(f"The load of {self.name} took too long.")
        found = await within(self._load_seconds, self._load(keys), late)
        if not isinstance(found, Mapping):
            raise TypeError(f"the load of {self.name} gave {type(found).__name__}, no mapping")
        return found

    def _fail(self, batch: "Iterable[_Wanted[V]]", error: Exception) -> None:
        for wanted in batch:
            self._count("failed")
            wanted.reject(error)

    def _give_up(self) -> None:
        waiting, self._wanted = self._wanted, {}
        self._fail(waiting.values(), self._cut())
        self._close_empty_window()

    def _cut(self) -> BatcherClosed:
        return BatcherClosed(f"The load of {self.name} was cut off.")

    def _count(self, outcome: str) -> None:
        KEYS.labels(self.name, outcome).inc()


class _Wanted(Shared[V | None]):
    """The value of one key, and since when it is waited for."""

    def __init__(self, since: float) -> None:
        super().__init__()
        self.since = since


def _call_later(seconds: float, call: Callable[[], None]) -> Timer:
    return asyncio.get_running_loop().call_later(seconds, call)
