"""SQLAlchemy's connection pool with metrics and a queue limit."""

from typing import Any, cast

from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import AsyncAdaptedQueuePool, ConnectionPoolEntry, PoolProxiedConnection

from slipway_kit.clock import now
from slipway_kit.db.connection import checkout_ends
from slipway_kit.db.errors import DatabaseBusy, DatabaseUnavailable
from slipway_kit.db.fair_queue import FairQueue
from slipway_kit.metrics import instruments
from slipway_kit.metrics.instruments import Counter, Gauge, Histogram
from slipway_kit.overload.queue_limit import PoolState, QueueLimit

SIZE = Gauge("db_pool_size", "Size of the database connection pool.")
CHECKED_OUT = Gauge(
    "db_pool_checked_out", "Connections in use, including those beyond the pool size."
)
OVERFLOW = Gauge("db_pool_overflow", "Connections beyond the pool size.")
WAITING = Gauge("db_pool_waiting", "Requests that are waiting for a connection of the pool.")
WAIT_SECONDS = Histogram(
    "db_pool_wait_seconds",
    "Queueing delay for a connection of the pool.",
    buckets=(0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
TIMEOUTS = Counter("db_pool_timeouts_total", "Waits for a connection that timed out.")
# Firewalls and load balancers drop idle connections only after minutes.
PING_AFTER_SECONDS = 1.0
_RETURNED = "returned at"


class MeasuredPool(AsyncAdaptedQueuePool):
    """Measures the queueing delay for a connection, and refuses when it would be too long.

    A connection that was returned less than `PING_AFTER_SECONDS` ago is not pinged.
    """

    _queue_class = FairQueue
    waiting = 0
    clock = staticmethod(now)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._queue_limit = QueueLimit("db_pool", self._pool_state, clock=self.clock)
        self._observe = instruments.observer(WAIT_SECONDS)

    def sample(self) -> None:
        """Set the gauges."""
        SIZE.set(self.size())
        CHECKED_OUT.set(self.checkedout())
        OVERFLOW.set(max(self.overflow(), 0))
        WAITING.set(self.waiting)

    def refuse_if_busy(self) -> None:
        """Raise `DatabaseBusy` when one more request would wait too long."""
        if not self._has_free() and self._queue_limit.refuses():
            raise DatabaseBusy

    def connect(self) -> PoolProxiedConnection:
        """Hand out a connection; waiting, pinging and connecting have one time together."""
        token = checkout_ends.set(now() + self._timeout)
        try:
            return super().connect()
        finally:
            checkout_ends.reset(token)

    def _has_free(self) -> bool:
        return self._overflow < self._max_overflow or self.checkedin() > 0

    def _pool_state(self) -> PoolState:
        return PoolState(self._has_free(), self.size() + self._max_overflow, self.waiting)

    def _do_get(self) -> ConnectionPoolEntry:
        if self._has_free():
            self._observe(0)
            # The slot is taken before connecting, which may take as long as its timeout.
            self._queue_limit.acquired(self.checkedout() + 1)
            try:
                return self._without_ping_if_recent(super()._do_get())
            except BaseException:
                self._queue_limit.released(self.checkedout())
                raise
        self.refuse_if_busy()
        self.waiting += 1
        started = self.clock()
        try:
            found = super()._do_get()
        except PoolTimeoutError as error:
            TIMEOUTS.inc()
            raise DatabaseUnavailable from error
        finally:
            self.waiting -= 1
            self._observe(self.clock() - started)
        self._queue_limit.acquired(self.checkedout())
        return self._without_ping_if_recent(found)

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        record.info[_RETURNED] = self.clock()
        super()._do_return_conn(record)
        self._queue_limit.released(self.checkedout())

    def _without_ping_if_recent(self, record: ConnectionPoolEntry) -> ConnectionPoolEntry:
        """Mark a recently used connection as fresh: SQLAlchemy pings no fresh ones."""
        returned = record.info.get(_RETURNED)
        if returned is not None and self.clock() - returned < PING_AFTER_SECONDS:
            driver: Any = record.driver_connection
            if driver is not None and not driver.is_closed():
                cast("Any", record).fresh = True
        return record
