"""Admission on simulated time: an event loop on which each request has a known cost."""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from kit.tests.support.turns import turns, until
from slipway_kit.overload.admission import (
    ITERATION_SECONDS,
    MIN_SAMPLE_SECONDS,
    SHORT_QUEUE_SECONDS,
    STEAL_ALLOWANCE_SECONDS,
    Admission,
    CpuSteal,
)
from slipway_kit.overload.pauses import TICK_SECONDS, Pauses
from slipway_kit.overload.queue_limit import MAX_BURST_DELAY_SECONDS, MAX_DELAY_SECONDS

# The cost of reading a request, and of refusing one.
READ_SECONDS = 0.00003
REFUSE_SECONDS = 0.00001


@dataclass
class Loop:
    """An event loop: each iteration reads what has arrived, then runs what was ready before."""

    now: float = 0.0
    # Its CPU time; `shared` returns by how many the core is shared at a time.
    own: float = 0.0
    shared: Callable[[float], int] = lambda _: 1
    served: list[tuple[float, float]] = field(default_factory=list)
    refused: list[tuple[float, float]] = field(default_factory=list)
    started: list[int] = field(default_factory=list)
    iterations: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._ready: deque[Callable[[], object]] = deque()
        self.pauses = Pauses(lambda: self.now)
        self.admission = Admission(
            clock=lambda: self.now,
            steal=lambda: self.now - self.own,
            call_soon=self._ready.append,
            pauses=self.pauses,
        )
        self._paused, self._ticked = (0.0, 0.0), 0.0

    def pause(self, begin: float, end: float) -> None:
        """Run nothing in this time; what arrives is read when it is over."""
        self._paused = (begin, end)

    def _stop_if_paused(self) -> None:
        begin, end = self._paused
        if begin <= self.now < end:
            self._tick_until(begin)
            self.own, self.now = self.own + end - self.now, end
            # What has arrived is read before late timers are run.
            self._ready.appendleft(self._tick)
        else:
            self._tick_until(self.now)

    def _tick(self) -> None:
        self.pauses.tick()
        self._ticked = self.now

    def _tick_until(self, moment: float) -> None:
        """Do what the server does ten times a second, also while the loop is idle."""
        resume, self.now = self.now, self._ticked
        while self.now + TICK_SECONDS <= moment:
            self.now += TICK_SECONDS
            self.pauses.tick()
        self._ticked, self.now = self.now, resume

    def serve(self, arrivals: list[tuple[float, list[float]]]) -> None:
        """Serve arrivals: a time, and the CPU seconds of each iteration that the request takes."""
        coming = deque(enumerate(arrivals))
        while coming or self._ready:
            if not self._ready and coming[0][1][0] > self.now:
                self.own += coming[0][1][0] - self.now
                self.now = coming[0][1][0]
            self._stop_if_paused()
            began = self.now
            while coming and coming[0][1][0] <= self.now:
                number, (at, costs) = coming.popleft()
                self._arrive(number, at, costs)
            for _ in range(len(self._ready)):
                self._ready.popleft()()
            self.iterations.append(self.now - began)

    def _arrive(self, number: int, at: float, costs: list[float]) -> None:
        self._spend(READ_SECONDS)
        start = partial(self._start, number, at, costs)
        if self.admission.start_now():
            start()
        elif not self.admission.enqueue(start):
            self._spend(REFUSE_SECONDS)
            self.refused.append((at, self.now - at))

    def _start(self, number: int, at: float, costs: list[float]) -> None:
        self.started.append(number)
        self._ready.append(partial(self._work, at, costs))

    def _work(self, at: float, costs: list[float]) -> None:
        self._spend(costs[0])
        if costs[1:]:
            self._ready.append(partial(self._work, at, costs[1:]))
        else:
            self.served.append((at, self.now - at))

    def _spend(self, seconds: float) -> None:
        self.own += seconds
        self.now += seconds * self.shared(self.now)


def at_random(
    rate: float, costs: list[list[float]], *, begin: float = 0, seconds: float = 3, seed: int = 0
) -> list[tuple[float, list[float]]]:
    chance = random.Random(seed)
    moment, found = begin, []
    while (moment := moment + chance.expovariate(rate)) < begin + seconds:
        found.append((moment, chance.choice(costs)))
    return found


def longest(answers: list[tuple[float, float]]) -> float:
    return max((took for _, took in answers), default=0.0)


COSTS = st.lists(st.floats(0.0003, 0.005), min_size=1, max_size=4)


def longest_burst(costs: list[float], load: float) -> float:
    """Return the longest wait in a burst that has only begun.

    Requests that arrive before the cost is known are never refused, and reading the others slows
    down those that are served.
    """
    whole = sum(costs)
    slower = 1 / (1 - load / whole * READ_SECONDS)
    return (MAX_BURST_DELAY_SECONDS + whole + load * MIN_SAMPLE_SECONDS) * slower


@settings(deadline=None, max_examples=40)
@given(costs=COSTS, load=st.floats(2, 5), seed=st.integers(0, 99))
def test_under_overload_the_cpu_serves_and_nobody_waits_for_long(
    costs: list[float], load: float, seed: int
) -> None:
    loop, whole = Loop(), sum(costs)
    arrivals = at_random(load / whole, [costs], seed=seed)
    loop.serve(arrivals)
    assert len(loop.served) + len(loop.refused) == len(arrivals)
    # CPU time beside reading and refusing.
    useful = loop.now - len(arrivals) * READ_SECONDS - len(loop.refused) * REFUSE_SECONDS
    assert len(loop.served) * whole >= 0.95 * useful
    assert longest(loop.served) <= 1.5 * longest_burst(costs, load)
    # Once load is shed.
    slower = 1 / (1 - load / whole * READ_SECONDS)
    assert longest([answer for answer in loop.served if answer[0] > 1.5]) <= 3 * slower * (
        MAX_DELAY_SECONDS + whole
    )
    assert longest(loop.refused) <= ITERATION_SECONDS * 10 + 3 * max(costs)


@settings(deadline=None, max_examples=40)
@given(costs=COSTS, load=st.floats(0.7, 2), seed=st.integers(0, 99))
def test_a_load_near_capacity_waits_no_longer_than_a_burst_may(
    costs: list[float], load: float, seed: int
) -> None:
    loop = Loop()
    loop.serve(at_random(load / sum(costs), [costs], seed=seed))
    assert longest(loop.served) <= 2 * longest_burst(costs, load)


@settings(deadline=None, max_examples=40)
@given(costs=COSTS, load=st.floats(0.05, 0.7), seed=st.integers(0, 99))
def test_a_load_that_fits_is_hardly_refused_anything(
    costs: list[float], load: float, seed: int
) -> None:
    loop = Loop()
    arrivals = at_random(load / (sum(costs) + READ_SECONDS), [costs], seed=seed)
    loop.serve(arrivals)
    assert len(loop.refused) <= 0.02 * len(arrivals)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 999), load=st.floats(0.1, 5))
def test_requests_start_in_the_order_in_which_they_came(seed: int, load: float) -> None:
    loop = Loop()
    loop.serve(at_random(load / 0.002, [[0.001, 0.001], [0.003]], seed=seed, seconds=1))
    assert loop.started == sorted(loop.started)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 999), load=st.floats(1, 6))
def test_iterations_stay_short_so_that_probes_are_never_late(seed: int, load: float) -> None:
    loop = Loop()
    loop.serve(at_random(load / 0.001, [[0.0005, 0.0005]], seed=seed))
    assert sorted(loop.iterations)[int(0.99 * len(loop.iterations))] <= 3 * ITERATION_SECONDS


def test_a_mix_of_cheap_and_expensive_requests_needs_no_tuning() -> None:
    loop = Loop()
    arrivals = at_random(4 / 0.00505, [[0.0001], [0.01]], seconds=5)
    loop.serve(arrivals)
    mean = 0.00505 + READ_SECONDS
    assert len(loop.served) >= 0.85 * loop.now / mean
    assert longest([answer for answer in loop.served if answer[0] > 1]) <= 0.3


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 999), load=st.floats(2, 4))
def test_a_burst_after_low_load_is_shed_before_many_wait_for_long(seed: int, load: float) -> None:
    loop, costs = Loop(), [[0.0008, 0.0006]]
    # The cost is measured only while requests wait.
    before = at_random(2 / 0.0014, costs, seconds=1, seed=seed)
    calm = at_random(0.5 / 0.0014, costs, begin=1, seconds=2, seed=seed)
    burst = at_random(load / 0.0014, costs, begin=3, seconds=2, seed=seed)
    loop.serve(before + calm + burst)
    later = [answer for answer in loop.served if answer[0] > 2]
    assert longest(later) <= 1.5 * MAX_BURST_DELAY_SECONDS


def test_no_request_waits_behind_a_burst_that_came_before_the_cost_was_known() -> None:
    loop = Loop()
    # Seconds of work at once, then a load of half a core.
    loop.serve([(0.0, [0.0014])] * 2000 + at_random(0.5 / 0.0014, [[0.0014]], begin=0.2))
    later = [answer for answer in loop.served if answer[0] > 0]
    assert len(later) > 100
    assert longest(later) <= 1.5 * MAX_BURST_DELAY_SECONDS


def waiting(count: int) -> tuple[Admission, list[int]]:
    """Queue requests of one millisecond each, and run until the second iteration has begun."""
    ready: list[Callable[[], None]] = []
    started: list[int] = []
    now = 0.0
    admission = Admission(
        clock=lambda: now, steal=lambda: 0.0, call_soon=ready.append, pauses=Pauses(lambda: now)
    )

    def spend(number: int) -> None:
        nonlocal now
        now += 0.001
        started.append(number)

    # Until the cost is known and the queue is empty.
    for number in range(100):
        if not admission.start_now():
            assert admission.enqueue(partial(spend, number))
    while ready:
        ready.pop(0)()
    started.clear()
    assert admission.start_now()
    for number in range(count):
        assert admission.enqueue(partial(spend, number))
    for _ in range(2):
        ready.pop(0)()
    return admission, started


def test_a_short_queue_starts_in_one_iteration() -> None:
    short = int(0.9 * SHORT_QUEUE_SECONDS / 0.001)
    admission, started = waiting(short)
    assert len(started) == short > ITERATION_SECONDS / 0.001
    assert not admission.backlogged


def test_a_long_queue_starts_in_short_iterations() -> None:
    admission, started = waiting(20)
    assert 1 <= len(started) <= ITERATION_SECONDS / 0.001 + 1
    assert admission.backlogged


def test_after_overload_nothing_is_refused() -> None:
    loop = Loop()
    calm = at_random(200, [[0.002]], begin=2.3, seconds=3)
    loop.serve(at_random(2000, [[0.002]], seconds=2) + calm)
    assert not [at for at, _ in loop.refused if at > 2.3]
    assert longest([answer for answer in loop.served if answer[0] > 2.3]) < MAX_DELAY_SECONDS


def test_short_stalls_of_the_machine_refuse_no_request() -> None:
    loop = Loop()
    arrivals = at_random(100, [[0.003]], seconds=8)
    # Of a quarter of a second each.
    stalls = [(second + 0.5, [0.25]) for second in range(1, 8)]
    loop.serve(sorted(arrivals + stalls))
    assert not loop.refused


@given(seed=st.integers(0, 100), rate=st.floats(20, 180), shared=st.integers(2, 20))
@settings(deadline=None, max_examples=30)
def test_cpu_steal_of_two_seconds_refuses_no_request(seed: int, rate: float, shared: int) -> None:
    loop = Loop(shared=lambda now: shared if 3 <= now < 5 else 1)
    # Half a core's work, less than two seconds of it during the steal.
    loop.serve(at_random(rate, [[0.003]], seconds=8, seed=seed))
    assert not loop.refused


@given(
    seed=st.integers(0, 999),
    load=st.floats(0.05, 0.5),
    begin=st.floats(1, 3),
    pause=st.floats(0.1, 1.0),
    cost=st.floats(0.0005, 0.005),
)
@settings(deadline=None, max_examples=60)
def test_a_worker_that_is_stopped_for_up_to_a_second_refuses_nobody(
    seed: int, load: float, begin: float, pause: float, cost: float
) -> None:
    loop = Loop()
    loop.pause(begin, begin + pause)
    whole = cost + READ_SECONDS
    # The cost of a request is known.
    warm = at_random(2 / cost, [[cost]], seconds=0.05, seed=seed)
    loop.serve(warm + at_random(load / whole, [[cost]], begin=0.5, seconds=6, seed=seed))
    assert not [at for at, _ in loop.refused if at > 0.5]
    assert longest(loop.served) <= pause + 0.3


def test_cpu_steal_never_decreases() -> None:
    steal = CpuSteal().seconds
    before = steal()
    sum(range(200_000))
    assert 0 <= before <= steal()


def test_the_allowance_of_cpu_steal_refills() -> None:
    loop = Loop(shared=lambda now: 10 if 3 <= now % 30 < 5 else 1)
    loop.serve(at_random(150, [[0.003]], seconds=95))
    assert not loop.refused


@given(seed=st.integers(0, 100), load=st.floats(2, 5), shared=st.integers(2, 4))
@settings(deadline=None, max_examples=20)
def test_a_worker_on_a_shared_core_has_the_capacity_of_its_share(
    seed: int, load: float, shared: int
) -> None:
    loop = Loop(shared=lambda now: shared if now >= 1 else 1)
    loop.serve(at_random(load / shared / 0.003, [[0.003]], seconds=16, seed=seed))
    # Once the allowance is spent.
    later = [answer for answer in loop.served if answer[0] > 12]
    assert longest(later) <= 2 * shared * MAX_BURST_DELAY_SECONDS
    assert len(later) * 0.003 * shared >= 0.85 * 4


def test_the_wait_is_bounded_while_cpu_steal_lasts() -> None:
    loop = Loop(shared=lambda now: 8 if now >= 1 else 1)
    # A little over capacity, so that it is noticed late.
    loop.serve(at_random(63, [[0.003]], seconds=60))
    assert loop.refused
    assert longest(loop.served) < 1.1 * 8 * (STEAL_ALLOWANCE_SECONDS + MAX_BURST_DELAY_SECONDS)


def test_one_very_slow_request_costs_others_its_own_time_and_no_more() -> None:
    loop = Loop()
    arrivals = at_random(100, [[0.002]], seconds=3)
    loop.serve(sorted([*arrivals, (1.0, [0.4])]))
    refused = [at for at, _ in loop.refused]
    assert all(1.0 <= at <= 1.6 for at in refused)
    assert len(refused) < 20


def test_on_an_idle_loop_a_request_starts_at_once() -> None:
    loop = Loop()
    loop.serve([(1.0, [0.001]), (2.0, [0.001])])
    assert [round(took, 6) for _, took in loop.served] == [0.00103] * 2
    assert loop.admission.admitted == 2


def test_nothing_runs_in_the_background_without_requests() -> None:
    ready: list[Callable[[], None]] = []
    admission = Admission(
        clock=lambda: 0.0,
        steal=lambda: 0.0,
        call_soon=ready.append,
        pauses=Pauses(lambda: 0.0),
    )
    assert admission.start_now()
    while ready:
        ready.pop(0)()
    assert ready == []
    assert admission.start_now()


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"admission_{name}", labels) or 0


def test_the_metrics_count_admitted_refused_and_waiting_requests() -> None:
    names = ("admitted_total", "waiting_requests", "expected_wait_seconds")
    ready: list[Callable[[], None]] = []
    now = 0.0
    admission = Admission(clock=lambda: now, steal=lambda: 0.0, call_soon=ready.append)
    before = [metric(name) for name in names], metric("refused_total", limit="event_loop")
    assert admission.start_now()
    for _ in range(60):
        assert admission.enqueue(lambda: None)
    # The first iteration ends; the next ones begin with a backlog and take ten milliseconds.
    for _ in range(60):
        ready.pop(0)()
        now += 0.01
    with capture_logs() as events:
        refusals = sum(not admission.enqueue(lambda: None) for _ in range(1000))
        admission.sample()
        admission.sample()
    assert refusals > 900
    assert [event["count"] for event in events] == [refusals]
    assert metric(names[0]) == before[0][0] + admission.admitted
    assert metric("refused_total", limit="event_loop") == before[1] + refusals
    assert metric(names[1]) > 3
    assert metric(names[2]) >= MAX_DELAY_SECONDS


@pytest.mark.anyio
async def test_on_a_real_loop_queued_requests_are_started() -> None:
    admission, started = Admission(), 0

    def start() -> None:
        nonlocal started
        started += 1

    entered = 0
    while admission.start_now():
        entered += 1
    for _ in range(100):
        assert admission.enqueue(start)
    assert (entered, started) == (1, 0)
    await until(lambda: started == 100)
    await turns()
    assert admission.expected_wait_seconds == 0
    assert admission.start_now()
