"""The queue limit of a pool, on simulated time."""

import contextvars
import heapq
from dataclasses import dataclass, field
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from slipway_kit import request_context
from slipway_kit.overload.pauses import Pauses
from slipway_kit.overload.queue_limit import (
    MAX_BURST_DELAY_SECONDS,
    MAX_DELAY_SECONDS,
    SHEDDING_SECONDS,
    PoolState,
    QueueLimit,
)
from slipway_kit.request_context import Limit


def refused(limit: str) -> float:
    return REGISTRY.get_sample_value("admission_refused_total", {"limit": limit}) or 0


@dataclass
class Pool:
    """A pool with a FIFO queue behind a queue limit; it records the waits."""

    count: int
    now: float = 0.0
    waits: list[float] = field(default_factory=list)
    # Arrival time and wait of each caller.
    waits_by_arrival: list[tuple[float, float]] = field(default_factory=list)
    refusals: int = 0
    first_refused: float = float("inf")

    def __post_init__(self) -> None:
        clock = partial(getattr, self, "now")
        self.queue_limit = QueueLimit("test", self._state, clock=clock, pauses=Pauses(clock))
        self._busy = 0
        self._queue: list[tuple[float, float]] = []
        self._ends: list[float] = []
        self._paused = (0.0, 0.0)

    def _state(self) -> PoolState:
        return PoolState(self._busy < self.count, self.count, len(self._queue))

    def pause(self, begin: float, end: float) -> None:
        """Let nobody give a permit back in this time."""
        self._paused = (begin, end)

    def serve(self, arrivals: list[tuple[float, float]]) -> None:
        """Serve arrivals: a time, and for how long the caller keeps its permit."""
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
        self.waits_by_arrival.append((came, self.now - came))
        self.queue_limit.acquired(self._busy)
        end = self.now + hold
        # What is in service during a pause ends when it is over, or later.
        begin, over = self._paused
        heapq.heappush(self._ends, max(end, over) if self.now < over and end > begin else end)

    def _pass_until(self, moment: float) -> None:
        while self._ends and self._ends[0] <= moment:
            self.now = heapq.heappop(self._ends)
            self._busy -= 1
            self.queue_limit.released(self._busy)
            if self._queue:
                self._take(*self._queue.pop(0))


def steadily(rate: float, hold: float, *, count: int = 4000) -> list[tuple[float, float]]:
    return [(number / rate, hold) for number in range(count)]


class Held:
    """A queue limit of a pool without a free permit, on a clock that a test sets forward."""

    def __init__(self, permits: int, *, waiting: int = 0) -> None:
        self.now, self.waiting = 0.0, waiting
        self.queue_limit = QueueLimit(
            "test",
            lambda: PoolState(False, permits, self.waiting),
            clock=lambda: self.now,
            pauses=Pauses(lambda: self.now),
        )

    def hold(self, *seconds: float) -> None:
        """Keep a permit for so long, one caller after another."""
        for each in seconds:
            self.queue_limit.acquired(1)
            self.now += each
            self.queue_limit.released(0)

    def refuses(self, *, waiting: int) -> bool:
        self.waiting = waiting
        return self.queue_limit.refuses()


HOLDS = st.floats(0.001, 0.5)
COUNTS = st.integers(1, 40)


@settings(deadline=None, max_examples=60)
@given(hold=HOLDS, count=COUNTS, load=st.floats(1.1, 6))
def test_under_overload_no_permit_is_idle_and_nobody_waits_for_long(
    hold: float, count: int, load: float
) -> None:
    pool = Pool(count)
    arrivals = steadily(load * count / hold, hold)
    pool.serve(arrivals)
    capacity = arrivals[-1][0] * count / hold
    assert len(pool.waits) >= 0.95 * capacity
    assert max(pool.waits) <= 3 * max(MAX_BURST_DELAY_SECONDS, hold)
    # Once load is shed.
    late = [wait for came, wait in pool.waits_by_arrival if came > pool.first_refused]
    assert max(late, default=0) <= 3 * max(MAX_DELAY_SECONDS, hold)
    assert len(pool.waits) + pool.refusals == len(arrivals)


@settings(deadline=None, max_examples=60)
@given(hold=HOLDS, count=COUNTS, load=st.floats(0.05, 0.95))
def test_a_load_below_capacity_is_never_refused(hold: float, count: int, load: float) -> None:
    pool = Pool(count)
    pool.serve(steadily(load * count / hold, hold))
    assert pool.refusals == 0


@given(permits=st.integers(1, 500), hold=st.floats(0.0001, 1000))
def test_as_many_may_wait_as_there_are_permits(permits: int, hold: float) -> None:
    held = Held(permits)
    held.hold(*[hold] * 20)
    assert not any(held.refuses(waiting=waiting) for waiting in range(permits))


def test_the_wait_is_estimated_from_the_service_time() -> None:
    held = Held(2)
    held.hold(*[0.01] * 100)
    for longest in (MAX_BURST_DELAY_SECONDS, MAX_DELAY_SECONDS):
        # After the first refusal the lower limit holds, until there is none for a while.
        most = round(longest / 0.01) * 2
        assert not held.refuses(waiting=most - 1)
        before = refused("test")
        assert held.refuses(waiting=most)
        assert refused("test") == before + 1
    held.now += SHEDDING_SECONDS
    assert not held.refuses(waiting=round(MAX_BURST_DELAY_SECONDS / 0.01) * 2 - 1)


def test_nobody_is_refused_before_the_first_release_or_while_a_permit_is_free() -> None:
    assert not Held(1).refuses(waiting=10_000)
    now = 0.0
    free = QueueLimit(
        "test", lambda: PoolState(True, 1, 0), clock=lambda: now, pauses=Pauses(lambda: now)
    )
    free.acquired(1)
    now += 100
    assert not free.refuses()


def test_without_releases_few_may_wait_though_the_service_time_was_short() -> None:
    held = Held(5)
    held.hold(*[0.001] * 100)
    held.queue_limit.acquired(5)
    assert not held.refuses(waiting=99)
    held.now += 2
    assert held.refuses(waiting=5)
    assert not held.refuses(waiting=4)


def test_the_average_follows_a_change_within_a_few_releases() -> None:
    held = Held(1)
    held.hold(*[1.0] * 50, *[0.001] * 200)
    assert not held.refuses(waiting=5)
    assert held.refuses(waiting=200)


def test_it_sheds_load_for_a_while_after_a_refusal() -> None:
    held = Held(1)
    held.hold(*[1.0] * 20)
    shedding = [held.queue_limit.shedding]
    assert held.refuses(waiting=5)
    shedding.append(held.queue_limit.shedding)
    held.now += SHEDDING_SECONDS
    assert [*shedding, held.queue_limit.shedding] == [False, True, False]


def test_a_request_knows_the_last_queue_limit_it_needed() -> None:
    class Request:
        deadline: float | None = None
        queue_limit: Limit | None = None
        by_client = False

    def use(held: Held) -> Limit | None:
        request = Request()
        request_context.begin(request)
        held.refuses(waiting=0)
        return request.queue_limit

    held = Held(1)
    assert contextvars.copy_context().run(use, held) is held.queue_limit


@pytest.mark.parametrize("limit", ["db_pool", "threads", "http_client", "event_loop"])
def test_every_limit_has_its_count_from_the_start(limit: str) -> None:
    QueueLimit(limit, lambda: PoolState(True, 1, 0))
    assert REGISTRY.get_sample_value("admission_refused_total", {"limit": limit}) is not None


@settings(deadline=None, max_examples=40)
@given(
    hold=st.floats(0.005, 0.3),
    count=st.integers(1, 10),
    load=st.floats(0.05, 0.5),
    pause=st.floats(0.05, 1.0),
    begin=st.floats(0.5, 5),
)
def test_a_pause_of_up_to_a_second_at_half_the_capacity_refuses_nobody(
    hold: float, count: int, load: float, pause: float, begin: float
) -> None:
    pool = Pool(count)
    rate = load * count / hold
    arrivals = steadily(rate, hold, count=int(rate * 9) + 1)
    pool.pause(begin, begin + pause)
    pool.serve(arrivals)
    assert pool.refusals == 0
    assert max(pool.waits) <= pause + hold + 1 / rate


@settings(deadline=None, max_examples=30)
@given(
    hold=st.floats(0.01, 0.1),
    count=st.integers(1, 10),
    load=st.floats(2, 6),
    pause=st.floats(0.05, 1.0),
)
def test_an_overload_with_a_pause_in_it_waits_for_the_pause_and_recovers(
    hold: float, count: int, load: float, pause: float
) -> None:
    pool = Pool(count)
    rate = load * count / hold
    pool.pause(1, 1 + pause)
    pool.serve(steadily(rate, hold, count=int(rate * 6)))
    # What waits when a pause begins may wait as long again when it is over.
    assert max(pool.waits) <= 3 * max(MAX_BURST_DELAY_SECONDS, hold) + pause * 2.5
    late = [wait for came, wait in pool.waits_by_arrival if came > 1 + 4 * pause]
    assert max(late) <= 3 * max(MAX_DELAY_SECONDS, hold) + hold
