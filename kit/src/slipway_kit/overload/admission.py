"""When a request starts: at once, a little later, or not at all because it would wait too long.

A worker that takes more requests than its CPU can serve answers all of them too late. Requests
start in batches that keep a turn of the event loop short, so that probes and what is under way are
never late; the others wait in order. One that would wait longer than `patience` allows is refused
when it arrives. No number is set for a route: what a request costs is measured as they run.
"""

import asyncio
from collections import deque
from collections.abc import Callable

import structlog

from slipway_kit.clock import now
from slipway_kit.metrics.instruments import Counter, Gauge
from slipway_kit.overload.cpu_steal import CpuSteal
from slipway_kit.overload.queue_limit import PRESSED_SECONDS, REFUSED, patience

log = structlog.get_logger()

ADMITTED = Counter("admission_admitted_total", "Requests that were let in; probes are not counted.")
WAITING = Gauge(
    "admission_waiting_requests", "Requests that wait for their turn on the event loop."
)
EXPECTED_SECONDS = Gauge(
    "admission_expected_wait_seconds",
    "How long a request that arrives now would wait for its turn on the event loop.",
    multiprocess_mode="livemax",
)
LIMIT = "event_loop"
# A turn that takes longer starts fewer requests the next time.
TURN_SECONDS = 0.002
# All who wait start at once when that makes a turn no longer than this: a queue as short as that is
# soon gone, and fewer turns cost less.
QUEUE_SECONDS = 0.004
_MOST_AT_ONCE = 512.0
# What was learned is forgotten in so many seconds of work, and means little before there was so
# much. Turns count for no more than that: one that is long must not outweigh all others.
_MEMORY_SECONDS, LEAST_SECONDS = 1.0, 0.05
# Turns that are all work are learned from together, so many seconds of them: to ask how long others
# had the core is a system call.
STRETCH_SECONDS = 0.01
# A load that would not keep one waiting too long if the worker had this share of a core to itself
# is no crowd: others have the core, and one may wait for so many seconds.
ALONE, ALONE_SECONDS = 0.9, 2.0
# Others may have it for that long, and then for this share of the time: a worker that never has a
# core to itself is as large as the part that it has.
AWAY = 0.1


class Admission:
    """Lets requests in, one worker's; the time of all is the CPU of one event loop.

    `enter` is asked first, `wait` when it says no. Both take microseconds, and while nobody waits
    nothing else runs.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = now,
        steal: Callable[[], float] | None = None,
        soon: Callable[[Callable[[], None]], object] | None = None,
    ) -> None:
        self.clock, self._steal = clock, steal or CpuSteal()
        self._soon = soon or _on_this_loop
        self._waiting: deque[Callable[[], None]] = deque()
        # Requests that may start in a turn, have started in this one, and when it began.
        self._batch, self._started, self._began = 1.0, 0, 0.0
        # Turns that were all work and are not learned from yet: how long they took, how many
        # requests started in them, and how long others had had the core when they began.
        self._stretch, self._stretch_requests, self._gone = 0.0, 0, 0.0
        self._refused_at = float("-inf")
        # How long one would have waited when this turn began if the worker had a core to itself,
        # and how many requests had come by then.
        self._alone, self._counted = 0.0, 0
        # For how long others may still have the core, and when that was found.
        self._pardon, self._pardon_at = ALONE_SECONDS, 0.0
        # Whether somebody waited when this turn began: only then is all of its time work.
        self._all_work = False
        # Work of late and the requests that were started in that time: a request costs, all of its
        # turns together, the one divided by the other.
        self._seconds, self._requests = 0.0, 0.0
        self._cost = 0.0
        self._refused_total = REFUSED.labels(LIMIT)
        self.admitted = self.refused = 0
        self._told_admitted = self._told_refused = 0

    @property
    def pressed(self) -> bool:
        """Whether somebody waits for a turn."""
        return bool(self._waiting)

    @property
    def expected_wait_seconds(self) -> float:
        """How long one that arrives now would wait, on a core that nobody else is on."""
        return len(self._waiting) * self._cost

    def enter(self) -> bool:
        """Let a request start now, or return false: then it may `wait`."""
        if self._waiting or self._started >= self._batch:
            return False
        if not self._started:
            self._began = self.clock()
            # It starts after this call, and the turn ends after it.
            self._soon(self._end_soon)
        self._started += 1
        self.admitted += 1
        return True

    def wait(self, start: Callable[[], None]) -> bool:
        """Have `start` called when it is its turn, or return false: it would take too long."""
        now = self.clock()
        pressed = now - self._refused_at < PRESSED_SECONDS
        longest = max(patience(pressed=pressed), self._cost)
        expected = self.expected_wait_seconds
        if expected > longest and (self._wait_alone(now) > longest or expected > ALONE_SECONDS):
            self._refused_at = now
            self.refused += 1
            return False
        self._waiting.append(start)
        return True

    def sample(self) -> None:
        """Set the metrics to what is now; say in the log how many were refused since."""
        admitted, refused = self.admitted, self.refused
        ADMITTED.inc(admitted - self._told_admitted)
        if refused > self._told_refused:
            count = refused - self._told_refused
            self._refused_total.inc(count)
            log.warning("requests refused", limit=LIMIT, count=count)
        self._told_admitted, self._told_refused = admitted, refused
        WAITING.set(len(self._waiting))
        EXPECTED_SECONDS.set(self.expected_wait_seconds)

    def _end_soon(self) -> None:
        self._soon(self._turn)

    def _turn(self) -> None:
        """End a turn of the loop, learn from it, and start what waits."""
        now = self.clock()
        seconds = now - self._began
        if seconds > TURN_SECONDS:
            self._batch = max(1.0, self._batch / 2)
        elif self._started >= int(self._batch):
            self._batch = min(_MOST_AT_ONCE, self._batch * 1.5)
        waiting = self._waiting
        if self._all_work:
            self._stretch += seconds
            self._stretch_requests += self._started
            if self._stretch >= STRETCH_SECONDS or not waiting:
                self._learn(now)
        elif waiting:
            self._gone = self._steal()
        self._alone = max(0.0, self._wait_alone(now)) if waiting else 0.0
        # Who waits is counted as soon as it is known what one costs.
        self._counted = self.admitted + self.refused + (len(waiting) if self._cost else 0)
        self._started, self._began = 0, now
        self._all_work = self.pressed
        short = 0 < self.expected_wait_seconds <= QUEUE_SECONDS
        room = len(waiting) if short else int(self._batch)
        while waiting and self._started < room:
            self._started += 1
            self.admitted += 1
            waiting.popleft()()
        if self._all_work:
            self._soon(self._turn)

    def _wait_alone(self, now: float) -> float:
        """Return how long one that arrives now would wait if no others were on the core.

        Less than 0 where such a core would have nothing to do.
        """
        # What came in a turn, however long, is read when it ends: only as a whole it counts.
        come = self.admitted + self.refused + len(self._waiting) - self._counted
        return self._alone + come * self._cost - (now - self._began) * ALONE

    def _learn(self, now: float) -> None:
        """Take turns, all of which were work, into the mean cost of a request."""
        gone = self._steal()
        steal = gone - self._gone
        pardon = min(self._pardon + (now - self._pardon_at) * AWAY, ALONE_SECONDS)
        self._pardon, self._pardon_at = max(0.0, pardon - steal), now
        # Beyond that even a core of its own is reckoned with as one that others have too.
        self._alone += max(0.0, steal - pardon) * ALONE
        # Not the time in which others had the core: a request costs no more for that.
        seconds = min(self._stretch - steal, LEAST_SECONDS)
        kept = 1 - seconds / _MEMORY_SECONDS
        self._seconds = self._seconds * kept + seconds
        self._requests = self._requests * kept + self._stretch_requests
        self._stretch, self._stretch_requests, self._gone = 0.0, 0, gone
        if self._seconds >= LEAST_SECONDS and self._requests:
            self._cost = self._seconds / self._requests


def _on_this_loop(callback: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_soon(callback)
