"""A limit on the queueing delay of a resource with a fixed number of permits.

A caller is refused at once when its expected delay exceeds `max_delay` and the service time: a
client that gets a 503 within milliseconds can retry later, one that waits times out, and the work
done for it is lost.
"""

from collections.abc import Callable
from typing import NamedTuple

from slipway_kit import request_context
from slipway_kit.clock import now
from slipway_kit.metrics.instruments import Counter
from slipway_kit.overload.pauses import PAUSES, Pauses

# The longest queueing delay while load is shed. Before the first refusal the queue may be a burst
# that drains by itself, so the limit is higher.
MAX_DELAY_SECONDS = 0.03
MAX_BURST_DELAY_SECONDS = 0.08
# A limit counts as shedding for this long after its last refusal.
SHEDDING_SECONDS = 1.0
REFUSED = Counter(
    "admission_refused_total",
    "Requests and calls refused because their queueing delay would have been too long, by limit.",
    ["limit"],
)
# Callers in service may take this many times as long as the mean before nothing coming back is a
# pause.
PAUSE_FACTOR = 3.0
# So many releases are in the moving averages, and twice as many as there are permits: those may be
# given back all at once.
_RELEASES = 20
# The error of sums of fractions.
_EPSILON = 1e-9


def max_delay(*, shedding: bool) -> float:
    """Return the longest queueing delay allowed, in seconds."""
    return MAX_DELAY_SECONDS if shedding else MAX_BURST_DELAY_SECONDS


class PoolState(NamedTuple):
    """Whether a permit is free, how many permits there are, and how many callers wait."""

    free: bool
    total: int
    waiting: int


class QueueLimit:
    """Estimates the queueing delay of one more caller from the mean service time.

    The owner of the pool reports every acquire and release. By Little's law the permits in use,
    integrated over the time between two releases, are on average the service time of one caller.
    Pauses, in which nothing is released, are left out of it and may be waited for.
    """

    def __init__(
        self,
        limit: str,
        state: Callable[[], PoolState],
        *,
        clock: Callable[[], float] = now,
        pauses: Pauses = PAUSES,
    ) -> None:
        self._refused = REFUSED.labels(limit)
        self._state, self._clock, self._pauses = state, clock, pauses
        self._in_use, self._since = 0, clock()
        # Permit-seconds since the last release, and the moving sums of them and of the releases.
        self._pending_seconds = 0.0
        self._permit_seconds, self._releases = 0.0, 0.0
        self._decay = 1 - 1 / _RELEASES
        self._refused_at = float("-inf")

    @property
    def shedding(self) -> bool:
        """Whether it refused a caller within the last `SHEDDING_SECONDS`."""
        return self._clock() - self._refused_at < SHEDDING_SECONDS

    def acquired(self, in_use: int) -> None:
        """Note that a caller took a permit; `in_use` counts it."""
        self._integrate()
        self._in_use = in_use
        request_context.note_queue_limit(self)

    def released(self, in_use: int) -> None:
        """Note that a caller gave its permit back; `in_use` are left."""
        self._integrate()
        self._in_use = in_use
        self._leave_out_pause()
        self._permit_seconds = self._permit_seconds * self._decay + self._pending_seconds
        self._releases = self._releases * self._decay + 1
        self._pending_seconds = 0.0

    def would_wait_too_long(self) -> bool:
        """Tell whether one more caller would exceed the longest queueing delay."""
        free, total, waiting = self._state()
        if free:
            return False
        self._decay = 1 - 1 / max(_RELEASES, 2 * total)
        self._integrate()
        service_time, extra = self._service_time, self._pauses.extra_seconds
        # For so long nothing was released.
        gap = self._pending_seconds / total
        if self._releases and gap > MAX_DELAY_SECONDS and self._pauses.allowed(gap) >= gap:
            extra = max(extra, gap)
        elif not self._releases or gap > MAX_DELAY_SECONDS:
            # The mean is unknown or out of date: the callers in service take at least as long as
            # they have taken already.
            service_time = max(service_time, self._pending_seconds)
        longest = max(max_delay(shedding=self.shedding), service_time) + extra
        return (waiting + 1) * service_time / total > longest * (1 + _EPSILON)

    def refuses(self) -> bool:
        """Tell whether to refuse a caller, and count the refusal."""
        request_context.note_queue_limit(self)
        if not self.would_wait_too_long():
            return False
        self.count_refusal()
        return True

    def count_refusal(self) -> None:
        """Count a refused caller."""
        self._refused_at = self._clock()
        self._refused.inc()

    @property
    def _service_time(self) -> float:
        return self._permit_seconds / self._releases if self._releases else 0.0

    def _leave_out_pause(self) -> None:
        """Take a pause that ends with this release out of the seconds since the last one."""
        if self._pending_seconds <= MAX_DELAY_SECONDS:
            return
        service_time = self._service_time
        longest = max(MAX_DELAY_SECONDS, PAUSE_FACTOR * service_time)
        if not self._releases or self._pending_seconds <= longest:
            return
        total = self._state().total
        gap = self._pending_seconds / total
        if gap > longest:
            self._pending_seconds -= self._pauses.end(gap - service_time) * total

    def _integrate(self) -> None:
        now = self._clock()
        self._pending_seconds += self._in_use * (now - self._since)
        self._since = now
