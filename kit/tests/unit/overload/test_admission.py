"""When requests start, on simulated time: an event loop that knows what each of them costs."""

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
    ALONE_SECONDS,
    LEAST_SECONDS,
    QUEUE_SECONDS,
    TURN_SECONDS,
    Admission,
)
from slipway_kit.overload.cpu_steal import CpuSteal
from slipway_kit.overload.queue_limit import BURST_SECONDS, PATIENCE_SECONDS

# What the server spends on one that it reads, and on one that it refuses.
READ_SECONDS = 0.00003
REFUSE_SECONDS = 0.00001


@dataclass
class Loop:
    """An event loop: reads what has come, then runs what was ready when it began to."""

    now: float = 0.0
    # What it has had of the core; others have it too while it is `shared` with some.
    own: float = 0.0
    shared: Callable[[float], int] = lambda _: 1
    served: list[tuple[float, float]] = field(default_factory=list)
    refused: list[tuple[float, float]] = field(default_factory=list)
    started: list[int] = field(default_factory=list)
    turns: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._ready: deque[Callable[[], object]] = deque()
        self.admission = Admission(
            clock=lambda: self.now, steal=lambda: self.now - self.own, soon=self._ready.append
        )

    def serve(self, arrivals: list[tuple[float, list[float]]]) -> None:
        """Let each come at its time; it costs these seconds, each in a turn of its own."""
        coming = deque(enumerate(arrivals))
        while coming or self._ready:
            if not self._ready and coming[0][1][0] > self.now:
                self.own += coming[0][1][0] - self.now
                self.now = coming[0][1][0]
            began = self.now
            while coming and coming[0][1][0] <= self.now:
                number, (at, costs) = coming.popleft()
                self._arrive(number, at, costs)
            for _ in range(len(self._ready)):
                self._ready.popleft()()
            self.turns.append(self.now - began)

    def _arrive(self, number: int, at: float, costs: list[float]) -> None:
        self._spend(READ_SECONDS)
        start = partial(self._start, number, at, costs)
        if self.admission.enter():
            start()
        elif not self.admission.wait(start):
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
    """How long one may wait in a crowd that came only now.

    What comes before it is known what a request costs waits unrefused; and all of it takes longer,
    for more and more is read meanwhile.
    """
    whole = sum(costs)
    slower = 1 / (1 - load / whole * READ_SECONDS)
    return (BURST_SECONDS + whole + load * LEAST_SECONDS) * slower


@settings(deadline=None, max_examples=40)
@given(costs=COSTS, load=st.floats(2, 5), seed=st.integers(0, 99))
def test_under_overload_the_cpu_serves_and_nobody_waits_for_long(
    costs: list[float], load: float, seed: int
) -> None:
    loop, whole = Loop(), sum(costs)
    arrivals = at_random(load / whole, [costs], seed=seed)
    loop.serve(arrivals)
    assert len(loop.served) + len(loop.refused) == len(arrivals)
    # What is left when all have been read and the others refused.
    useful = loop.now - len(arrivals) * READ_SECONDS - len(loop.refused) * REFUSE_SECONDS
    assert len(loop.served) * whole >= 0.95 * useful
    assert longest(loop.served) <= 1.5 * longest_burst(costs, load)
    # Once it is seen that the crowd stays.
    slower = 1 / (1 - load / whole * READ_SECONDS)
    assert longest([answer for answer in loop.served if answer[0] > 1.5]) <= 3 * slower * (
        PATIENCE_SECONDS + whole
    )
    assert longest(loop.refused) <= TURN_SECONDS * 10 + 3 * max(costs)


@settings(deadline=None, max_examples=40)
@given(costs=COSTS, load=st.floats(0.7, 2), seed=st.integers(0, 99))
def test_about_as_much_as_fits_waits_no_longer_than_a_burst_may(
    costs: list[float], load: float, seed: int
) -> None:
    loop = Loop()
    loop.serve(at_random(load / sum(costs), [costs], seed=seed))
    assert longest(loop.served) <= 1.5 * longest_burst(costs, load)


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
def test_turns_stay_short_so_that_probes_are_never_late(seed: int, load: float) -> None:
    loop = Loop()
    loop.serve(at_random(load / 0.001, [[0.0005, 0.0005]], seed=seed))
    assert sorted(loop.turns)[int(0.99 * len(loop.turns))] <= 3 * TURN_SECONDS


def test_a_mix_of_cheap_and_dear_is_served_without_a_number_for_either() -> None:
    loop = Loop()
    arrivals = at_random(4 / 0.00505, [[0.0001], [0.01]], seconds=5)
    loop.serve(arrivals)
    mean = 0.00505 + READ_SECONDS
    assert len(loop.served) >= 0.85 * loop.now / mean
    assert longest([answer for answer in loop.served if answer[0] > 1]) <= 0.3


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 999), load=st.floats(2, 4))
def test_a_crowd_after_a_calm_time_is_seen_before_many_wait_for_long(
    seed: int, load: float
) -> None:
    loop, costs = Loop(), [[0.0008, 0.0006]]
    # Something had to wait before, or it would not be known what a request costs.
    before = at_random(2 / 0.0014, costs, seconds=1, seed=seed)
    calm = at_random(0.5 / 0.0014, costs, begin=1, seconds=2, seed=seed)
    crowd = at_random(load / 0.0014, costs, begin=3, seconds=2, seed=seed)
    loop.serve(before + calm + crowd)
    assert longest([answer for answer in loop.served if answer[0] > 2]) <= 1.5 * BURST_SECONDS


def test_behind_all_who_came_before_it_was_known_what_one_costs_nobody_waits() -> None:
    loop = Loop()
    # Seconds of work at the first moment, and half a core's from then on.
    loop.serve([(0.0, [0.0014])] * 2000 + at_random(0.5 / 0.0014, [[0.0014]], begin=0.2))
    later = [answer for answer in loop.served if answer[0] > 0]
    assert len(later) > 100
    assert longest(later) <= 1.5 * BURST_SECONDS


def waiting(count: int) -> tuple[Admission, list[int]]:
    """Let so many wait for what costs a millisecond, until a turn after the first has begun."""
    ready: list[Callable[[], None]] = []
    started: list[int] = []
    now = 0.0
    admission = Admission(clock=lambda: now, steal=lambda: 0.0, soon=ready.append)

    def spend(number: int) -> None:
        nonlocal now
        now += 0.001
        started.append(number)

    # Until it is known what one costs, and nobody waits any more.
    for number in range(100):
        if not admission.enter():
            assert admission.wait(partial(spend, number))
    while ready:
        ready.pop(0)()
    started.clear()
    assert admission.enter()
    for number in range(count):
        assert admission.wait(partial(spend, number))
    for _ in range(2):
        ready.pop(0)()
    return admission, started


def test_a_short_queue_starts_in_one_turn() -> None:
    short = int(0.9 * QUEUE_SECONDS / 0.001)
    admission, started = waiting(short)
    assert len(started) == short > TURN_SECONDS / 0.001
    assert not admission.pressed


def test_a_long_queue_starts_in_turns_that_stay_short() -> None:
    admission, started = waiting(20)
    assert 1 <= len(started) <= TURN_SECONDS / 0.001 + 1
    assert admission.pressed


def test_after_overload_nothing_is_refused() -> None:
    loop = Loop()
    calm = at_random(200, [[0.002]], begin=2.3, seconds=3)
    loop.serve(at_random(2000, [[0.002]], seconds=2) + calm)
    assert not [at for at, _ in loop.refused if at > 2.3]
    assert longest([answer for answer in loop.served if answer[0] > 2.3]) < PATIENCE_SECONDS


def test_a_machine_that_stands_still_now_and_then_refuses_nobody() -> None:
    loop = Loop()
    arrivals = at_random(100, [[0.003]], seconds=8)
    # For a quarter of a second each: so many wait then, and are served soon after.
    stalls = [(second + 0.5, [0.25]) for second in range(1, 8)]
    loop.serve(sorted(arrivals + stalls))
    assert not loop.refused


@given(seed=st.integers(0, 100), rate=st.floats(20, 180), shared=st.integers(2, 20))
@settings(deadline=None, max_examples=30)
def test_who_shares_the_core_for_two_seconds_with_others_refuses_nobody(
    seed: int, rate: float, shared: int
) -> None:
    loop = Loop(shared=lambda now: shared if 3 <= now < 5 else 1)
    # Half a core's work, of which less than two seconds' comes meanwhile.
    loop.serve(at_random(rate, [[0.003]], seconds=8, seed=seed))
    assert not loop.refused


def test_a_thread_knows_how_long_it_has_waited_for_a_core() -> None:
    steal = CpuSteal()
    before = steal()
    sum(range(200_000))
    assert 0 <= before <= steal()


def test_others_may_come_again_later() -> None:
    loop = Loop(shared=lambda now: 10 if 3 <= now % 30 < 5 else 1)
    loop.serve(at_random(150, [[0.003]], seconds=95))
    assert not loop.refused


@given(seed=st.integers(0, 100), load=st.floats(2, 5), shared=st.integers(2, 4))
@settings(deadline=None, max_examples=20)
def test_who_never_has_a_core_to_itself_is_as_large_as_its_part(
    seed: int, load: float, shared: int
) -> None:
    loop = Loop(shared=lambda now: shared if now >= 1 else 1)
    loop.serve(at_random(load / shared / 0.003, [[0.003]], seconds=16, seed=seed))
    # Until then the others may be gone soon.
    later = [answer for answer in loop.served if answer[0] > 12]
    assert longest(later) <= 2 * shared * BURST_SECONDS
    assert len(later) * 0.003 * shared >= 0.85 * 4


def test_where_others_stay_on_the_core_waiting_has_an_end() -> None:
    loop = Loop(shared=lambda now: 8 if now >= 1 else 1)
    # A little more than fits, so that it shows late.
    loop.serve(at_random(63, [[0.003]], seconds=60))
    assert loop.refused
    assert longest(loop.served) < 1.1 * 8 * (ALONE_SECONDS + BURST_SECONDS)


def test_one_that_takes_very_long_costs_others_its_own_time_and_no_more() -> None:
    loop = Loop()
    arrivals = at_random(100, [[0.002]], seconds=3)
    loop.serve(sorted([*arrivals, (1.0, [0.4])]))
    refused = [at for at, _ in loop.refused]
    assert all(1.0 <= at <= 1.6 for at in refused)
    assert len(refused) < 20


def test_alone_on_an_idle_loop_a_request_starts_at_once() -> None:
    loop = Loop()
    loop.serve([(1.0, [0.001]), (2.0, [0.001])])
    assert [round(took, 6) for _, took in loop.served] == [0.00103] * 2
    assert loop.admission.admitted == 2


def test_nothing_runs_while_nobody_asks() -> None:
    ready: list[Callable[[], None]] = []
    admission = Admission(clock=lambda: 0.0, steal=lambda: 0.0, soon=ready.append)
    assert admission.enter()
    while ready:
        ready.pop(0)()
    assert ready == []
    assert admission.enter()


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"admission_{name}", labels) or 0


def test_the_metrics_say_who_was_let_in_refused_and_waits() -> None:
    names = ("admitted_total", "waiting_requests", "expected_wait_seconds")
    ready: list[Callable[[], None]] = []
    now = 0.0
    admission = Admission(clock=lambda: now, steal=lambda: 0.0, soon=ready.append)
    before = [metric(name) for name in names], metric("refused_total", limit="event_loop")
    assert admission.enter()
    for _ in range(60):
        assert admission.wait(lambda: None)
    # The first turn ends, the next ones begin with others waiting, and take ten milliseconds.
    for _ in range(60):
        ready.pop(0)()
        now += 0.01
    with capture_logs() as events:
        refusals = sum(not admission.wait(lambda: None) for _ in range(1000))
        admission.sample()
        admission.sample()
    assert refusals > 900
    assert [event["count"] for event in events] == [refusals]
    assert metric(names[0]) == before[0][0] + admission.admitted
    assert metric("refused_total", limit="event_loop") == before[1] + refusals
    assert metric(names[1]) > 3
    assert metric(names[2]) >= PATIENCE_SECONDS


@pytest.mark.anyio
async def test_on_a_real_loop_those_who_wait_are_started() -> None:
    admission, started = Admission(), 0

    def start() -> None:
        nonlocal started
        started += 1

    entered = 0
    while admission.enter():
        entered += 1
    for _ in range(100):
        assert admission.wait(start)
    assert (entered, started) == (1, 0)
    await until(lambda: started == 100)
    await turns()
    assert admission.expected_wait_seconds == 0
    assert admission.enter()
