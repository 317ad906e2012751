"""Admission: a request starts at once, waits in a queue, or is refused on arrival.

Requests start in batches that keep each iteration of the event loop short, so that probes and
requests in flight are not late; the others wait in order. A request whose queueing delay would
exceed `max_delay` is refused. The cost of a request is a moving average of the CPU time measured.
"""

import asyncio
import os
from collections import deque
from collections.abc import Callable

import structlog

from slipway_kit.clock import now
from slipway_kit.metrics.instruments import Counter, Gauge
from slipway_kit.overload.pauses import PAUSES, Pauses
from slipway_kit.overload.queue_limit import REFUSED, SHEDDING_SECONDS, max_delay

log = structlog.get_logger()

ADMITTED = Counter("admission_admitted_total", "Requests that were admitted, without probes.")
WAITING = Gauge("admission_waiting_requests", "Requests that wait in the admission queue.")
EXPECTED_SECONDS = Gauge(
    "admission_expected_wait_seconds",
    "Queueing delay that a request arriving now would have before it starts.",
    multiprocess_mode="livemax",
)
LIMIT = "event_loop"
# A longer iteration halves the next batch.
ITERATION_SECONDS = 0.002
# A queue that takes no longer than this starts as a whole: fewer iterations cost less.
SHORT_QUEUE_SECONDS = 0.004
_MAX_BATCH = 512.0
# The moving average covers this much CPU time, and is not used before it has the second. One sample
# counts for no more than the second, so that a long iteration does not outweigh all others.
_AVERAGE_SECONDS, MIN_SAMPLE_SECONDS = 1.0, 0.05
# Busy iterations are sampled together, for reading CPU steal is a system call.
SAMPLE_SECONDS = 0.01
# A load that a core of our own could serve at this utilisation is no overload: the delay comes from
# CPU steal, and a request may wait up to so many seconds.
DEDICATED_SHARE, STEAL_ALLOWANCE_SECONDS = 0.9, 2.0
# Once that allowance is spent it refills at this rate: a worker that never has a core to itself has
# the capacity of its share of one.
STEAL_ALLOWANCE_RATE = 0.1


class Admission:
    """The admission queue of one worker, whose resource is the CPU time of its event loop.

    Callers try `start_now` first and `enqueue` next. Both take microseconds, and nothing runs in
    the background while the queue is empty.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = now,
        steal: Callable[[], float] | None = None,
        call_soon: Callable[[Callable[[], None]], object] | None = None,
        pauses: Pauses = PAUSES,
    ) -> None:
        self.clock, self._steal = clock, steal or CpuSteal().seconds
        self._pauses = pauses
        self._call_soon = call_soon or _on_this_loop
        self._waiting: deque[Callable[[], None]] = deque()
        # Requests that may start per iteration; those started in this one, and when it began.
        self._batch, self._started, self._began = 1.0, 0, 0.0
        # The sample that is being taken: seconds of busy iterations, the requests started in
        # them, and the CPU steal when it began.
        self._sample_seconds, self._sample_requests, self._sample_steal = 0.0, 0, 0.0
        self._refused_at = float("-inf")
        # The queueing delay on a dedicated core when this iteration began, and the arrivals so far.
        self._dedicated_delay, self._arrivals = 0.0, 0
        # How many more seconds of CPU steal are tolerated, and when that was updated.
        self._allowance, self._allowance_at = STEAL_ALLOWANCE_SECONDS, 0.0
        # Whether requests waited when this iteration began: only then is all of it CPU time.
        self._busy = False
        # Moving sums of CPU seconds and of the requests started; their quotient is the cost of one.
        self._seconds, self._requests = 0.0, 0.0
        self._cost = 0.0
        self._refused_total = REFUSED.labels(LIMIT)
        self.admitted = self.refused = 0
        self._reported_admitted = self._reported_refused = 0

    @property
    def backlogged(self) -> bool:
        """Whether requests wait."""
        return bool(self._waiting)

    @property
    def expected_wait_seconds(self) -> float:
        """Return the queueing delay of a request that arrives now, without CPU steal."""
        return len(self._waiting) * self._cost

    def start_now(self) -> bool:
        """Admit a request at once; when this returns false, `enqueue` it."""
        if self._waiting or self._started >= self._batch:
            return False
        if not self._started:
            self._began = self.clock()
            # The request starts after this call, and the iteration ends after the request.
            self._call_soon(self._end_soon)
        self._started += 1
        self.admitted += 1
        return True

    def enqueue(self, start: Callable[[], None]) -> bool:
        """Queue a request, which `start` begins, or return false when it would wait too long."""
        now = self.clock()
        shedding = now - self._refused_at < SHEDDING_SECONDS
        longest = max(max_delay(shedding=shedding), self._cost)
        expected = self.expected_wait_seconds
        too_long = expected > longest and expected > longest + self._pauses.extra_seconds
        if too_long and (
            self._delay_on_dedicated_core(now) > longest or expected > STEAL_ALLOWANCE_SECONDS
        ):
            self._refused_at = now
            self.refused += 1
            return False
        self._waiting.append(start)
        return True

    def sample(self) -> None:
        """Update the metrics, and log how many requests were refused since the last call."""
        admitted, refused = self.admitted, self.refused
        ADMITTED.inc(admitted - self._reported_admitted)
        if refused > self._reported_refused:
            count = refused - self._reported_refused
            self._refused_total.inc(count)
            log.warning("requests refused", limit=LIMIT, count=count)
        self._reported_admitted, self._reported_refused = admitted, refused
        WAITING.set(len(self._waiting))
        EXPECTED_SECONDS.set(self.expected_wait_seconds)

    def _end_soon(self) -> None:
        self._call_soon(self._end_iteration)

    def _end_iteration(self) -> None:
        """Adapt the batch to the iteration that ends, sample its cost, start the next batch."""
        now = self.clock()
        seconds = now - self._began
        if seconds > ITERATION_SECONDS:
            self._batch = max(1.0, self._batch / 2)
        elif self._started >= int(self._batch):
            self._batch = min(_MAX_BATCH, self._batch * 1.5)
        waiting = self._waiting
        if self._busy:
            self._sample_seconds += seconds
            self._sample_requests += self._started
            if self._sample_seconds >= SAMPLE_SECONDS or not waiting:
                self._update_cost(now)
        elif waiting:
            self._sample_steal = self._steal()
        self._dedicated_delay = max(0.0, self._delay_on_dedicated_core(now)) if waiting else 0.0
        # Requests that wait before the cost is known count as arrivals once it is known.
        self._arrivals = self.admitted + self.refused + (len(waiting) if self._cost else 0)
        self._started, self._began = 0, now
        self._busy = self.backlogged
        short = 0 < self.expected_wait_seconds <= SHORT_QUEUE_SECONDS
        room = len(waiting) if short else int(self._batch)
        while waiting and self._started < room:
            self._started += 1
            self.admitted += 1
            waiting.popleft()()
        if self._busy:
            self._call_soon(self._end_iteration)

    def _delay_on_dedicated_core(self, now: float) -> float:
        """Return the queueing delay of a request that arrives now if there were no CPU steal.

        It is negative when such a core would be idle.
        """
        # All that arrives during an iteration is read when it ends, so it counts as a whole.
        arrived = self.admitted + self.refused + len(self._waiting) - self._arrivals
        worked = (now - self._began) * DEDICATED_SHARE
        return self._dedicated_delay + arrived * self._cost - worked

    def _update_cost(self, now: float) -> None:
        """Take the sample of busy iterations into the mean cost of a request."""
        total_steal = self._steal()
        steal = total_steal - self._sample_steal
        refilled = self._allowance + (now - self._allowance_at) * STEAL_ALLOWANCE_RATE
        allowance = min(refilled, STEAL_ALLOWANCE_SECONDS)
        self._allowance, self._allowance_at = max(0.0, allowance - steal), now
        # Steal beyond the allowance counts as delay even on a dedicated core.
        self._dedicated_delay += max(0.0, steal - allowance) * DEDICATED_SHARE
        # Steal is no part of the cost.
        seconds = min(self._sample_seconds - steal, MIN_SAMPLE_SECONDS)
        decay = 1 - seconds / _AVERAGE_SECONDS
        self._seconds = self._seconds * decay + seconds
        self._requests = self._requests * decay + self._sample_requests
        self._sample_seconds, self._sample_requests, self._sample_steal = 0.0, 0, total_steal
        if self._seconds >= MIN_SAMPLE_SECONDS and self._requests:
            self._cost = self._seconds / self._requests


def _on_this_loop(callback: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_soon(callback)


class CpuSteal:
    """Time in which the first thread to ask could run, but others had its core.

    Linux alone reports it; elsewhere it is 0.
    """

    def __init__(self) -> None:
        self._file: int | None = None

    def seconds(self) -> float:
        """Return the total since the thread began."""
        try:
            if self._file is None:
                self._file = os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)
            return int(os.pread(self._file, 80, 0).split()[1]) / 1e9
        except (OSError, IndexError, ValueError):
            return 0.0
