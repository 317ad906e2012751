"""The connection pool of SQLAlchemy, with the waits that it does not tell of."""

from typing import Any, cast

import asyncpg
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import AsyncAdaptedQueuePool, ConnectionPoolEntry

from slipway_kit.clock import now
from slipway_kit.metrics.fast_paths import observer
from slipway_kit.metrics.instruments import Counter, Gauge, Histogram
from slipway_kit.overload.queue_limit import PoolState, QueueLimit

SIZE = Gauge("db_pool_size", "Connections that the database pool keeps.")
CHECKED_OUT = Gauge(
    "db_pool_checked_out", "Connections that somebody holds now, those beyond the pool included."
)
OVERFLOW = Gauge("db_pool_overflow", "Connections beyond the size of the pool.")
WAITING = Gauge("db_pool_waiting", "Those who wait for a connection of the pool.")
WAIT_SECONDS = Histogram(
    "db_pool_wait_seconds",
    "How long it took to get a connection that others held.",
    buckets=(0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
# Firewalls and balancers that forget a connection take minutes.
TRUST_SECONDS = 1.0
_RETURNED = "returned at"
TIMEOUTS = Counter("db_pool_timeouts_total", "Waits for a connection that were given up.")


class PoolBusyError(PoolTimeoutError):
    """So many wait for a connection already that one more would wait for too long."""


class MeasuredPool(AsyncAdaptedQueuePool):
    """Measures how long it takes to get a connection, and refuses at once where it would be long.

    One that came back a moment ago is not asked whether it lives, as `pool_pre_ping` would: unless
    the server has closed it, it is as alive as any answer could say.
    """

    waiting = 0
    clock = staticmethod(now)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._queue_limit = QueueLimit("db_pool", self._places, clock=self.clock)
        self._observe = observer(WAIT_SECONDS)

    def sample(self) -> None:
        """Set the gauges to what they are now."""
        SIZE.set(self.size())
        CHECKED_OUT.set(self.checkedout())
        OVERFLOW.set(max(self.overflow(), 0))
        WAITING.set(self.waiting)

    def refuse_if_busy(self) -> None:
        """Raise `PoolBusyError` when one more would wait for too long."""
        if not self._has_free() and self._queue_limit.refuses():
            raise PoolBusyError

    def _has_free(self) -> bool:
        return self._overflow < self._max_overflow or self.checkedin() > 0

    def _places(self) -> PoolState:
        return PoolState(self._has_free(), self.size() + self._max_overflow, self.waiting)

    def _do_get(self) -> ConnectionPoolEntry:
        if self._has_free():
            self._observe(0)
            return self._trusted(self._at_once())
        self.refuse_if_busy()
        self.waiting += 1
        started = self.clock()
        try:
            found = super()._do_get()
        except PoolTimeoutError:
            TIMEOUTS.inc()
            raise
        finally:
            self.waiting -= 1
            self._observe(self.clock() - started)
        self._queue_limit.acquired(self.checkedout())
        return self._trusted(found)

    def _trusted(self, record: ConnectionPoolEntry) -> ConnectionPoolEntry:
        """Have SQLAlchemy take a connection for a new one, which it asks nothing."""
        returned = record.info.get(_RETURNED)
        if returned is not None and self.clock() - returned < TRUST_SECONDS:
            driver: asyncpg.Connection[asyncpg.Record] | None = record.driver_connection
            if driver is not None and not driver.is_closed():
                cast("Any", record).fresh = True
        return record

    def _at_once(self) -> ConnectionPoolEntry:
        # It may have to connect first, and that takes its place as long as a failure lasts.
        self._queue_limit.acquired(self.checkedout() + 1)
        try:
            return super()._do_get()
        except BaseException:
            self._queue_limit.released(self.checkedout())
            raise

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        record.info[_RETURNED] = self.clock()
        super()._do_return_conn(record)
        self._queue_limit.released(self.checkedout())
