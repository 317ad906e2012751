"""A cache per worker for values that are expensive to compute and may be some seconds old.

The LRU memory store of cashews keeps the entries. Expiry and single flight are done here, because
cashews (7.6) uses the wall clock, which jumps; waits for its lock by busy polling; lets the
cancellation of one caller end a computation that others wait for; and counts no evictions.
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
from slipway_kit.errors import Unavailable
from slipway_kit.metrics.instruments import Counter, Gauge

T = TypeVar("T")
log = structlog.get_logger()

REQUESTS = Counter(
    "cache_requests_total",
    "Cache look-ups: hit, miss (computed), shared (joined a running computation) or error.",
    ["cache", "result"],
)
ENTRIES = Gauge("cache_entries", "Entries in a cache.", ["cache"])
EVICTIONS = Counter("cache_evictions_total", "Entries evicted to make room for others.", ["cache"])


class Cache(Generic[T]):
    """At most `max_entries` values of `type_`, each `ttl_seconds` old at most.

    Concurrent callers share one computation of a key, which may take `compute_seconds`. Entries are
    JSON: each caller gets its own value, and an entry that is not of `type_` is a miss. `name` is a
    metric label: set it in code, never from a request.
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
            raise ValueError(
                f"cache {name} needs ttl_seconds above 0 and max_entries of at least 1"
            )
        self.name = name
        self._json: TypeAdapter[T] = TypeAdapter(type_)
        self._ttl_seconds, self._compute_seconds = ttl_seconds, compute_seconds
        # No interval: the store would run a task for ever to look for expired entries.
        self._store = store or Memory(size=max_entries, check_interval=0)
        self._clock = clock
        self._flights: dict[str, Shared[bytes]] = {}
        self._store_works = True

    async def get(self, key: str, compute: Callable[[], Awaitable[T]]) -> T:
        """Return the cached value of `key`, or await `compute()` and cache its result.

        An error is not cached: every waiting caller gets it, and the next call computes again.
        `compute` runs without the context of its caller, so it must not use its session or request.
        """
        found = await self._find(key)
        if found is not None:
            self._count("hit")
            return found[0]
        result = "shared" if key in self._flights else "miss"
        flight = self._flights.setdefault(key, Shared())
        answer = flight.add_waiter()
        if result == "miss":
            flight.task = start_shared(
                self._compute(key, compute, flight),
                name=f"cache {self.name}",
                callers=flight.callers,
                ended=partial(self._computation_ended, key, flight),
                cache=self.name,
            )
        try:
            payload = await answer
        except asyncio.CancelledError:
            if not flight.has_waiters:
                self._forget(key, flight)
                flight.task.cancel()
            raise
        except Exception:
            result = "error"
            raise
        finally:
            self._count(result)
        return self._json.validate_json(payload)

    async def delete(self, key: str) -> None:
        """Drop the value of `key`; the result of a running computation is not cached either."""
        self._flights.pop(key, None)
        await self._drop(key)

    async def _find(self, key: str) -> tuple[T] | None:
        """Return the value in a tuple, because `None` is a valid value."""
        entry = await self._use(self._store.get, key)
        if entry is None:
            return None
        try:
            until, payload = entry
            value = self._json.validate_json(payload)
            if self._clock() < until:
                return (value,)
        except (TypeError, ValueError):
            log.warning("cache entry is invalid", cache=self.name)
        await self._drop(key)
        return None

    async def _compute(
        self, key: str, compute: Callable[[], Awaitable[T]], flight: Shared[bytes]
    ) -> bytes:
        value = await within(self._compute_seconds, compute(), name=f"computation of {self.name}")
        payload = self._json.dump_json(value, warnings="error")
        # A value that cannot be read back is a bug; without this check every look-up would miss.
        self._json.validate_json(payload)
        # Otherwise `delete` was called meanwhile.
        if self._flights.get(key) is flight:
            await self._keep(key, payload)
        return payload

    def _computation_ended(
        self, key: str, flight: Shared[bytes], task: asyncio.Task[bytes]
    ) -> None:
        self._forget(key, flight)
        if task.cancelled():
            text = f"The computation of {self.name} was cancelled; try again soon."
            flight.reject(Unavailable(text))
        elif error := task.exception():
            if not flight.has_waiters:
                log.warning("cache computation failed without a waiter", exc_info=error)
            flight.reject(error)
        else:
            flight.resolve(task.result())

    def _forget(self, key: str, flight: Shared[bytes]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]

    async def _keep(self, key: str, payload: bytes) -> None:
        kept = self._store.store
        if len(kept) >= self._store.size and key not in kept:
            EVICTIONS.labels(self.name).inc()
        entry = (self._clock() + self._ttl_seconds, payload)
        await self._use(self._store.set, key, entry, self._ttl_seconds)
        ENTRIES.labels(self.name).set(len(kept))

    async def _drop(self, key: str) -> None:
        await self._use(self._store.delete, key)
        ENTRIES.labels(self.name).set(len(self._store.store))

    async def _use(self, call: Callable[..., Awaitable[Any]], *args: object) -> Any:
        """Call the store; when it fails return `None`, so the cache computes, and log it once."""
        try:
            answer = await call(*args)
        except Exception:
            if self._store_works:
                log.exception("cache store failed; every value is computed", cache=self.name)
            self._store_works = False
            return None
        self._store_works = True
        return answer

    def _count(self, result: str) -> None:
        REQUESTS.labels(self.name, result).inc()
