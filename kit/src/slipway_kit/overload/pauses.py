"""Pauses: times in which nothing came back, and the backlog that they leave.

A database that fails over, an upstream that collects garbage, a worker that is stopped: what
arrives in the meantime has to wait, and the backlog drains by itself when the pause ends. That is
no overload, in which work comes back as fast as it can and more of it arrives. So limits on a
queueing delay allow for the length of a pause while it lasts, and for twice as long afterwards.
"""

from collections.abc import Callable

from slipway_kit.clock import now

# Seconds of pauses that are allowed for, and how fast they refill: what pauses more often has the
# capacity that is left.
ALLOWANCE_SECONDS, ALLOWANCE_RATE = 1.5, 0.2
# A load of half the capacity leaves a backlog that takes as long as the pause to drain.
DRAIN_FACTOR = 2.0
# How often `tick` is called, and a delay of it that is none of a pause.
TICK_SECONDS, MAX_LATE_SECONDS = 0.1, 0.05


class Pauses:
    """The pauses of one worker and of all that it waits for."""

    def __init__(self, clock: Callable[[], float] = now) -> None:
        self._clock = clock
        self._allowance, self._allowance_at = ALLOWANCE_SECONDS, clock()
        # The last pause; several limits may note the same one.
        self._begin = self._end = self._allowance_at
        self._extra, self._until = 0.0, self._allowance_at
        self._ticked: float | None = None

    @property
    def extra_seconds(self) -> float:
        """Return how much longer than without pauses a queueing delay may be now."""
        moment = self._clock()
        return max(self._extra_at(moment), self.allowed(self._late(moment)))

    def allowed(self, seconds: float) -> float:
        """Return how much of a pause that began `seconds` ago is allowed for."""
        moment = self._clock()
        return min(seconds, self._known(moment - seconds) + self._left(moment))

    def end(self, seconds: float) -> float:
        """Note the end of a pause that began `seconds` ago; return how much is allowed for."""
        moment, allowed = self._clock(), self.allowed(seconds)
        new = allowed - self._known(moment - seconds)
        self._allowance, self._allowance_at = self._left(moment) - max(0.0, new), moment
        self._extra = max(allowed, self._extra_at(moment))
        self._until = max(self._until, moment + allowed * DRAIN_FACTOR)
        begin = moment - allowed
        self._begin = min(begin, self._begin) if begin <= self._end else begin
        self._end = moment
        return allowed

    def tick(self) -> None:
        """Note that the event loop runs; called every `TICK_SECONDS`."""
        moment = self._clock()
        if late := self._late(moment):
            self.end(late)
        self._ticked = moment

    def _extra_at(self, moment: float) -> float:
        return self._extra if moment < self._until else 0.0

    def _late(self, moment: float) -> float:
        """Return for how long the event loop did not run, 0 without `tick`."""
        late = 0.0 if self._ticked is None else moment - self._ticked - TICK_SECONDS
        return late if late > MAX_LATE_SECONDS else 0.0

    def _known(self, begin: float) -> float:
        """Return how much of the time since `begin` has been noted already."""
        return max(0.0, self._end - max(self._begin, begin))

    def _left(self, moment: float) -> float:
        refilled = self._allowance + (moment - self._allowance_at) * ALLOWANCE_RATE
        return min(refilled, ALLOWANCE_SECONDS)


# Those of this process, which has one event loop.
PAUSES = Pauses()
