"""Who may wait for a place, on simulated time."""

import contextvars
import heapq
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from slipway_kit import request_context
from slipway_kit.overload.queue_limit import (
    BURST_SECONDS,
    PATIENCE_SECONDS,
    PRESSED_SECONDS,
    Places,
    QueueLimit,
)
from slipway_kit.request_context import Limit


def refused(limit: str) -> float:
    return REGISTRY.get_sample_value("admission_refused_total", {"limit": limit}) or 0


@dataclass
class Line:
    """Places behind a queue limit, first come first served; what happens is a list of times."""

    count: int
    now: float = 0.0
    waits: list[float] = field(default_factory=list)
    # The same with the time when each came.
    later: list[tuple[float, float]] = field(default_factory=list)
    refusals: int = 0
    first_refused: float = float("inf")

    def __post_init__(self) -> None:
        self.queue_limit = QueueLimit("test", self._look, clock=lambda: self.now)
        self._busy = 0
        self._queue: list[tuple[float, float]] = []
        self._ends: list[float] = []

    def _look(self) -> Places:
        return Places(self._busy < self.count, self.count, len(self._queue))

    def serve(self, arrivals: list[tuple[float, float]]) -> None:
        """Let each come at its time and hold a place for as long as it says."""
        for at, hold in arrivals:
            self._pass_until(at)
            self.now = at
            if self.queue_limit.refuses():
                self.refusals += 1
                self.first_refused = min(self.first_refused, at)
            elif self._busy < self.count:
                self._take(at, hold)
            else:
                self._queue.append((at, hold))
        self._pass_until(float("inf"))

    def _take(self, came: float, hold: float) -> None:
        self._busy += 1
        self.waits.append(self.now - came)
        self.later.append((came, self.now - came))
        self.queue_limit.took(self._busy)
        heapq.heappush(self._ends, self.now + hold)

    def _pass_until(self, moment: float) -> None:
        while self._ends and self._ends[0] <= moment:
            self.now = heapq.heappop(self._ends)
            self._busy -= 1
            self.queue_limit.gave(self._busy)
            if self._queue:
                self._take(*self._queue.pop(0))


def steadily(rate: float, hold: float, *, count: int = 4000) -> list[tuple[float, float]]:
    return [(number / rate, hold) for number in range(count)]


class Held:
    """A queue limit before places that are all taken, on a clock that a test sets forward."""

    def __init__(self, places: int, *, waiting: int = 0) -> None:
        self.now, self.waiting = 0.0, waiting
        self.queue_limit = QueueLimit(
            "test", lambda: Places(False, places, self.waiting), clock=lambda: self.now
        )

    def hold(self, *seconds: float) -> None:
        """Have somebody hold a place for so long, one after another."""
        for each in seconds:
            self.queue_limit.took(1)
            self.now += each
            self.queue_limit.gave(0)

    def refuses(self, *, waiting: int) -> bool:
        self.waiting = waiting
        return self.queue_limit.refuses()


HOLDS = st.floats(0.001, 0.5)
COUNTS = st.integers(1, 40)


@settings(deadline=None, max_examples=60)
@given(hold=HOLDS, count=COUNTS, load=st.floats(1.1, 6))
def test_under_overload_places_are_never_idle_and_nobody_waits_for_long(
    hold: float, count: int, load: float
) -> None:
    places = Line(count)
    arrivals = steadily(load * count / hold, hold)
    places.serve(arrivals)
    capacity = arrivals[-1][0] * count / hold
    assert len(places.waits) >= 0.95 * capacity
    assert max(places.waits) <= 3 * max(BURST_SECONDS, hold)
    # Once it is seen that the crowd stays.
    late = [wait for came, wait in places.later if came > places.first_refused]
    assert max(late, default=0) <= 3 * max(PATIENCE_SECONDS, hold)
    assert len(places.waits) + places.refusals == len(arrivals)


@settings(deadline=None, max_examples=60)
@given(hold=HOLDS, count=COUNTS, load=st.floats(0.05, 0.95))
def test_a_load_that_fits_is_refused_nothing(hold: float, count: int, load: float) -> None:
    places = Line(count)
    places.serve(steadily(load * count / hold, hold))
    assert places.refusals == 0


@given(places=st.integers(1, 500), hold=st.floats(0.0001, 1000))
def test_as_many_may_wait_as_there_are_places(places: int, hold: float) -> None:
    held = Held(places)
    held.hold(*[hold] * 20)
    assert not any(held.refuses(waiting=waiting) for waiting in range(places))


def test_the_wait_is_reckoned_by_what_each_place_was_held_for() -> None:
    held = Held(2)
    held.hold(*[0.01] * 100)
    for longest in (BURST_SECONDS, PATIENCE_SECONDS):
        # Once somebody was refused it is a load, until nobody is for a while.
        most = round(longest / 0.01) * 2
        assert not held.refuses(waiting=most - 1)
        before = refused("test")
        assert held.refuses(waiting=most)
        assert refused("test") == before + 1
    held.now += PRESSED_SECONDS
    assert not held.refuses(waiting=round(BURST_SECONDS / 0.01) * 2 - 1)


def test_nobody_is_refused_before_anything_is_known_or_while_a_place_is_free() -> None:
    assert not Held(1).refuses(waiting=10_000)
    now = 0.0
    free = QueueLimit("test", lambda: Places(True, 1, 0), clock=lambda: now)
    free.took(1)
    now += 100
    assert not free.refuses()


def test_when_nobody_gives_a_place_back_few_wait_though_all_was_quick_before() -> None:
    held = Held(5)
    held.hold(*[0.001] * 100)
    held.queue_limit.took(5)
    assert not held.refuses(waiting=99)
    held.now += 2
    assert held.refuses(waiting=5)
    assert not held.refuses(waiting=4)


def test_what_changes_is_learned_within_a_few_returns() -> None:
    held = Held(1)
    held.hold(*[1.0] * 50, *[0.001] * 200)
    assert not held.refuses(waiting=5)
    assert held.refuses(waiting=200)


def test_it_is_pressed_for_a_while_after_it_refused_somebody() -> None:
    held = Held(1)
    held.hold(*[1.0] * 20)
    pressed = [held.queue_limit.pressed]
    assert held.refuses(waiting=5)
    pressed.append(held.queue_limit.pressed)
    held.now += PRESSED_SECONDS
    assert [*pressed, held.queue_limit.pressed] == [False, True, False]


def test_a_request_knows_the_gate_that_it_came_to() -> None:
    class Request:
        due: float | None = None
        queue_limit: Limit | None = None

    def come(held: Held) -> Limit | None:
        request = Request()
        request_context.begin(request)
        held.refuses(waiting=0)
        return request.queue_limit

    held = Held(1)
    assert contextvars.copy_context().run(come, held) is held.queue_limit


@pytest.mark.parametrize("limit", ["db_pool", "threads", "http_client", "event_loop"])
def test_every_limit_has_its_count_from_the_start(limit: str) -> None:
    QueueLimit(limit, lambda: Places(True, 1, 0))
    assert REGISTRY.get_sample_value("admission_refused_total", {"limit": limit}) is not None
