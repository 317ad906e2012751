"""Answers that are dear to compute and may be some seconds old, kept by each worker for itself.

cashews keeps the entries: its memory store holds a number of them and drops the one that was unused
longest. The rest is ours, because cashews (7.6) looks at the wall clock, which jumps; waits for its
lock by polling without a pause; lets one caller's cancellation end what others wait for; and counts
no evictions. Another worker may hold another answer for as long as an entry lives.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Generic, TypeVar

import structlog
from cashews.backends.memory import Memory
from pydantic import TypeAdapter

from slipway_kit.clock import now
from slipway_kit.concurrency.sharing import Shared, start_shared, within
from slipway_kit.errors import DeadlineExceeded, Unavailable
from slipway_kit.metrics.instruments import Counter, Gauge

T = TypeVar("T")
log = structlog.get_logger()

REQUESTS = Counter(
    "cache_requests_total",
    "Look-ups in a cache: hit, miss (computed), shared (another's computation) or error.",
    ["cache", "result"],
)
ENTRIES = Gauge("cache_entries", "Entries that a cache holds.", ["cache"])
EVICTIONS = Counter(
    "cache_evictions_total", "Entries that were dropped to make room for others.", ["cache"]
)


class ComputationTooSlow(DeadlineExceeded):
    """A value took longer to compute than it may."""


class ComputationCut(Unavailable):
    """The computation of a value was cancelled while somebody waited for it."""


class Cache(Generic[T]):
    """At most `max_entries` values of `type_`, each `ttl_seconds` old at most.

    A value is computed once at a time for all who ask, and within `compute_seconds`. Entries are
    JSON: everybody gets a value of their own, and one that is not of `type_` is a miss. `name` is a
    label: give it in code, never from a request.
    """

    def __init__(  # noqa: PLR0913 (bounds of one thing, each with a default)
        self,
        name: str,
        type_: type[T],
        *,
        ttl_seconds: float,
        max_entries: int,
        compute_seconds: float = 10,
        store: Memory | None = None,
        clock: Callable[[], float] = now,
    ) -> None:
        if ttl_seconds <= 0 or max_entries < 1:
            raise ValueError(f"cache {name} needs a time to live and room for an entry")
        self.name = name
        self._json: TypeAdapter[T] = TypeAdapter(type_)
        self._ttl_seconds, self._compute_seconds = ttl_seconds, compute_seconds
        # No interval: the store's own search for old entries is a task that wakes for ever.
        self._store = store or Memory(size=max_entries, check_interval=0)
        self._clock = clock
        self._flights: dict[str, _Flight] = {}
        self._store_works = True

    async def get(self, key: str, compute: Callable[[], Awaitable[T]]) -> T:
        """Return the value kept for `key`, or await `compute()` and keep what it returns.

        An error is never kept: it is raised for all who wait, and the next one computes again.
        `compute` runs without the context of its caller, so borrow no session or request in it.
        """
        found = await self._find(key)
        if found is not None:
            self._count("hit")
            return found[0]
        flight = self._flights.get(key)
        result = "shared" if flight else "miss"
        if flight is None:
            flight = self._flights[key] = _Flight()
        answer = flight.ask()
        if result == "miss":
            self._take_off(key, compute, flight)
        try:
            payload = await answer
        except asyncio.CancelledError:
            self._leave(key, flight)
            raise
        except Exception:
            result = "error"
            raise
        finally:
            self._count(result)
        return self._json.validate_json(payload)

    async def delete(self, key: str) -> None:
        """Forget the value of `key`, also one that is being computed, for all who ask later."""
        self._flights.pop(key, None)
        await self._use(self._store.delete, key)
        self._show_entries()

    async def _find(self, key: str) -> tuple[T] | None:
        """Return the value in a tuple, for it may be `None` itself."""
        entry = await self._use(self._store.get, key)
        if entry is None:
            return None
        try:
            until, payload = entry
            value = self._json.validate_json(payload)
            if self._clock() < until:
                return (value,)
        except (TypeError, ValueError):
            log.warning("cache entry makes no sense", cache=self.name)
        await self._use(self._store.delete, key)
        self._show_entries()
        return None

    def _take_off(self, key: str, compute: Callable[[], Awaitable[T]], flight: "_Flight") -> None:
        work = self._compute(key, compute, flight)
        flight.task = start_shared(
            work, name=f"cache {self.name}", callers=flight.callers, cache=self.name
        )
        flight.task.add_done_callback(partial(self._land, key, flight))

    def _leave(self, key: str, flight: "_Flight") -> None:
        """End a computation that nobody waits for any more."""
        if not flight.wanted:
            self._forget(key, flight)
            flight.task.cancel()

    async def _compute(
        self, key: str, compute: Callable[[], Awaitable[T]], flight: "_Flight"
    ) -> bytes:
        late = ComputationTooSlow(f"The answer of {self.name} took too long.")
        value = await within(self._compute_seconds, compute(), late)
        payload = self._json.dump_json(value, warnings="error")
        # What cannot be read back is a bug to be seen at once, not a miss for ever.
        self._json.validate_json(payload)
        # Otherwise it was deleted meanwhile.
        if self._flights.get(key) is flight:
            await self._keep(key, payload)
        return payload

    def _land(self, key: str, flight: "_Flight", task: asyncio.Task[bytes]) -> None:
        self._forget(key, flight)
        if task.cancelled():
            flight.reject(ComputationCut(f"The answer of {self.name} was cut off; try again soon."))
        elif error := task.exception():
            if not flight.wanted:
                log.warning("cache computation failed unheard", cache=self.name, exc_info=error)
            flight.reject(error)
        else:
            flight.resolve(task.result())

    def _forget(self, key: str, flight: "_Flight") -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]

    async def _keep(self, key: str, payload: bytes) -> None:
        kept = self._store.store
        if len(kept) >= self._store.size and key not in kept:
            EVICTIONS.labels(self.name).inc()
        entry = (self._clock() + self._ttl_seconds, payload)
        await self._use(self._store.set, key, entry, self._ttl_seconds)
        self._show_entries()

    def _show_entries(self) -> None:
        ENTRIES.labels(self.name).set(len(self._store.store))

    async def _use(self, call: Callable[..., Awaitable[Any]], *args: object) -> Any:
        """Ask the store; when it fails the cache computes, and says so once."""
        try:
            answer = await call(*args)
        except Exception:
            if self._store_works:
                log.exception("cache store fails; answers are computed", cache=self.name)
            self._store_works = False
            return None
        if not self._store_works:
            log.info("cache store works again", cache=self.name)
        self._store_works = True
        return answer

    def _count(self, result: str) -> None:
        REQUESTS.labels(self.name, result).inc()


class _Flight(Shared[bytes]):
    """One computation for all who wait for it."""

    task: asyncio.Task[bytes]
