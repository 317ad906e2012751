"""Whether one more may wait for something that has a known number of places.

A wait is worth its while as long as it is short. When it would be longer than `patience` allows,
and longer than what is waited for takes itself, the answer is no at once: clients that are told so
within milliseconds come back later, those that wait time out and the work for them is lost.
"""

from collections.abc import Callable
from typing import NamedTuple

from slipway_kit import request_context
from slipway_kit.clock import now
from slipway_kit.metrics.instruments import Counter

# Who would be served sooner than this may wait where somebody was refused of late; where nobody
# was, it is a crowd that came only now and may be gone as soon, and one may wait for longer.
PATIENCE_SECONDS = 0.03
BURST_SECONDS = 0.08
# After its last refusal a queue limit is pressed for so long.
PRESSED_SECONDS = 1.0
REFUSED = Counter(
    "admission_refused_total",
    "Requests and calls that would have waited for too long, by what they would have waited for.",
    ["limit"],
)
# How fast the mean forgets: the last twenty count twice as much as all before.
_KEPT = 0.95
# Of sums of fractions.
_NOISE = 1e-9


def patience(*, pressed: bool) -> float:
    """Return how long one may wait; `pressed` is whether somebody was refused of late."""
    return PATIENCE_SECONDS if pressed else BURST_SECONDS


class Places(NamedTuple):
    """The places behind a limit: whether one is free, how many there are, and how many wait."""

    free: bool
    total: int
    waiting: int


class QueueLimit:
    """Reckons how long one more would wait, by how long those before kept their places.

    Tell it of every change. It needs no time of each holder: the places taken, summed over the
    time between two returns, are on average what one holder takes (Little's law).
    """

    def __init__(
        self,
        limit: str,
        look: Callable[[], Places],
        *,
        clock: Callable[[], float] = now,
    ) -> None:
        self._refused = REFUSED.labels(limit)
        self._look, self._clock = look, clock
        self._busy, self._since = 0, clock()
        # Place-seconds since the last return; of late, and the returns in that time.
        self._area = 0.0
        self._areas, self._returns = 0.0, 0.0
        self._refused_at = float("-inf")

    @property
    def pressed(self) -> bool:
        """Whether it has refused somebody of late."""
        return self._clock() - self._refused_at < PRESSED_SECONDS

    def took(self, busy: int) -> None:
        """Note that a place was taken; `busy` are taken now."""
        self._pass_time()
        self._busy = busy
        request_context.came_to(self)

    def gave(self, busy: int) -> None:
        """Note that a place was given back; `busy` are taken now."""
        self._pass_time()
        self._busy = busy
        self._areas = self._areas * _KEPT + self._area
        self._returns = self._returns * _KEPT + 1
        self._area = 0.0

    def would_wait_too_long(self) -> bool:
        """Tell whether one more would wait for too long."""
        free, places, waiting = self._look()
        if free:
            return False
        self._pass_time()
        hold = self._areas / self._returns if self._returns else 0.0
        if not self._returns or self._area > places * PATIENCE_SECONDS:
            # Nobody has given a place back yet, or for so long that what they do is not what it
            # was: it takes at least as long as it has taken so far.
            hold = max(hold, self._area)
        longest = max(patience(pressed=self.pressed), hold)
        return (waiting + 1) * hold / places > longest * (1 + _NOISE)

    def refuses(self) -> bool:
        """Tell the same, and count one that is refused."""
        request_context.came_to(self)
        if not self.would_wait_too_long():
            return False
        self.count()
        return True

    def count(self) -> None:
        """Count one that was refused."""
        self._refused_at = self._clock()
        self._refused.inc()

    def _pass_time(self) -> None:
        now = self._clock()
        self._area += self._busy * (now - self._since)
        self._since = now
