"""What the rules of one worker do in a fleet of many, by simulation.

A worker is a server that works on one request after another; its door refuses by the wait that a
request would have, as the service's does. A database with so many cores serves all workers at once,
and connections wait there too. Arrivals are random, and the balancer may be uneven.
"""

import heapq
import math
import random
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from benchmarks.report import SIMULATED, Row

# As in slipway_kit/overload/queue_limit.py.
PATIENCE_SECONDS = 0.03
USEFUL_SECONDS = 0.5
WORKERS = 2
MULTIPLES = (1.0, 2.0, 4.0)
# The case of the overload part that this is about.
MEASURED = "CPU"
# A pod starts so long after it is wanted; the autoscaler looks so often and aims at this use.
START_SECONDS = 20.0
LOOK_SECONDS = 15.0
AIM = 0.7
# When the load grows, and what share of refusals is few.
STEP_SECONDS = 10.0
FEW = 0.05


@dataclass
class Outcome:
    """What became of requests; waits in seconds."""

    asked: int = 0
    refused: int = 0
    took: list[float] = field(default_factory=list)
    # When useful answers were given, by second.
    useful: dict[int, int] = field(default_factory=dict)

    def answered(self, now: float, took: float) -> None:
        """Count an answer."""
        self.took.append(took)
        if took <= USEFUL_SECONDS:
            self.useful[int(now)] = self.useful.get(int(now), 0) + 1

    @property
    def p99(self) -> float:
        """The time that 99 of 100 answers took at most."""
        ordered = sorted(self.took)
        return ordered[int(0.99 * len(ordered))] if ordered else 0.0


@dataclass(frozen=True)
class Price:
    """CPU time of a request and of a refusal, and how long one may wait, seconds."""

    request: float
    refusal: float
    patience: float = PATIENCE_SECONDS


PRICE = Price(0.002, 0.00005)
# Each worker stands for ten, so that fewer requests do.
LARGE = Price(10 * PRICE.request, 10 * PRICE.refusal, 10 * PRICE.patience)


@dataclass
class Worker:
    """One event loop: busy until `free`, with `busy` seconds of work done so far."""

    free: float = 0.0
    busy: float = 0.0

    def ask(self, now: float, price: Price, outcome: Outcome) -> bool:
        """Work on a request that comes now, or refuse it between two others and return false."""
        outcome.asked += 1
        start = max(now, self.free)
        if start - now > max(price.patience, price.request):
            self.free += price.refusal
            self.busy += price.refusal
            outcome.refused += 1
            return False
        self.free = start + price.request
        self.busy += price.request
        outcome.answered(self.free, self.free - now)
        return True


Choose = Callable[[random.Random, int], int]


def evenly(chance: random.Random, count: int) -> int:
    """Return any worker."""
    return chance.randrange(count)


def unevenly(chance: random.Random, count: int) -> int:
    """Return a worker; a tenth of them get three times as much as the others."""
    few = max(count // 10, 1)
    share = 3 * few / (3 * few + count - few)
    if chance.random() < share:
        return chance.randrange(few)
    return few + chance.randrange(max(count - few, 1)) if count > few else 0


def arrivals(
    rate: Callable[[float], float], seconds: float, chance: random.Random
) -> Iterator[float]:
    """Yield random moments at a rate that may change."""
    now = 0.0
    while (now := now + chance.expovariate(rate(now))) < seconds:
        yield now


def cpu_bound(
    pods: int, load: float, choose: Choose, *, seconds: float = 2.0, price: Price = PRICE
) -> Outcome:
    """Ask a fleet for `load` times what its CPUs can serve."""
    return served([Worker() for _ in range(pods * WORKERS)], load, choose, seconds, price)


def served(
    workers: list[Worker], load: float, choose: Choose, seconds: float, price: Price
) -> Outcome:
    """Ask workers for `load` times what their CPUs can serve."""
    chance, outcome = random.Random(1), Outcome()  # noqa: S311 (it decides about load)
    rate = load * len(workers) / price.request
    for now in arrivals(lambda _: rate, seconds, chance):
        workers[choose(chance, len(workers))].ask(now, price, outcome)
    return outcome


@dataclass
class Door:
    """The queue limit of one worker's pool, by the mean of what connections were held for."""

    places: int
    busy: int = 0
    hold: float = 0.0
    waiting: list[float] = field(default_factory=list)

    def refuses(self) -> bool:
        """Tell whether one more would wait for too long."""
        if self.busy < self.places:
            return False
        wait = (len(self.waiting) + 1) * self.hold / self.places
        return wait > max(PATIENCE_SECONDS, self.hold)


@dataclass(frozen=True)
class Database:
    """A database that works on `cores` statements of `query` seconds at a time."""

    cores: int = 32
    query: float = 0.005


class DatabaseFleet:
    """Workers whose requests are a statement each; those beyond its cores hold connections too."""

    def __init__(self, pods: int, database: Database, *, pool: int) -> None:
        """Have nobody ask yet."""
        self.outcome = Outcome()
        self._database, self._chance = database, random.Random(1)  # noqa: S311 (as above)
        self._doors = [Door(pool) for _ in range(pods * WORKERS)]
        self._running = 0
        # When its connection was taken, when its request came, and whose it is.
        self._queue: list[tuple[float, float, int]] = []
        # When a statement ends, whose it is, when its connection was taken and its request came.
        self._ends: list[tuple[float, int, float, float]] = []

    def ask(self, load: float, *, seconds: float) -> Outcome:
        """Ask for `load` times what the database can serve."""
        rate = load * self._database.cores / self._database.query
        for now in arrivals(lambda _: rate, seconds, self._chance):
            while self._ends and self._ends[0][0] <= now:
                self._end()
            self._arrive(now)
        while self._ends:
            self._end()
        return self.outcome

    def _arrive(self, now: float) -> None:
        self.outcome.asked += 1
        number = self._chance.randrange(len(self._doors))
        door = self._doors[number]
        if door.refuses():
            self.outcome.refused += 1
        elif door.busy >= door.places:
            door.waiting.append(now)
        else:
            self._take(now, number, now)

    def _take(self, now: float, number: int, came: float) -> None:
        self._doors[number].busy += 1
        if self._running < self._database.cores:
            self._start(now, number, now, came)
        else:
            heapq.heappush(self._queue, (now, came, number))

    def _start(self, now: float, number: int, taken: float, came: float) -> None:
        self._running += 1
        end = now + self._chance.expovariate(1 / self._database.query)
        heapq.heappush(self._ends, (end, number, taken, came))

    def _end(self) -> None:
        now, number, taken, came = heapq.heappop(self._ends)
        door = self._doors[number]
        door.busy -= 1
        door.hold += (now - taken - door.hold) * (0.05 if door.hold else 1)
        self.outcome.answered(now, now - came)
        self._running -= 1
        if self._queue:
            since, waited, other = heapq.heappop(self._queue)
            self._start(now, other, since, waited)
        if door.waiting:
            self._take(now, number, door.waiting.pop(0))


class ScalingFleet:
    """A fleet whose autoscaler looks now and then, and whose pods take their time to start.

    The autoscaler looks at the CPU, of which no more than all can be used; with `by_demand` at what
    is asked for, refusals included.
    """

    def __init__(self, pods: int, *, by_demand: bool, price: Price) -> None:
        """Have so many pods."""
        self.outcome, self.workers = Outcome(), [Worker() for _ in range(pods * WORKERS)]
        # Requests and refusals of each second.
        self._seconds: dict[int, list[int]] = {}
        self._by_demand, self._price = by_demand, price
        self._coming: list[tuple[float, int]] = []
        self._looked_at, self._done, self._asked = 0.0, 0.0, 0

    def ask(self, load: float, *, seconds: float) -> float:
        """Ask for what it is sized for, then for `load` times that.

        Return how long after that fewer than `FEW` of the requests of a second were refused.
        """
        chance = random.Random(1)  # noqa: S311 (as above)
        before = AIM * len(self.workers) / self._price.request
        later = before * load
        for now in arrivals(lambda at: later if at > STEP_SECONDS else before, seconds, chance):
            while self._coming and self._coming[0][0] <= now:
                _, more = heapq.heappop(self._coming)
                self.workers += [Worker(free=now) for _ in range(more * WORKERS)]
            if now - self._looked_at >= LOOK_SECONDS:
                self._look(now)
            self._asked += 1
            counts = self._seconds.setdefault(int(now), [0, 0])
            counts[0] += 1
            worker = self.workers[evenly(chance, len(self.workers))]
            counts[1] += not worker.ask(now, self._price, self.outcome)
        bad = [second for second, (asked, no) in self._seconds.items() if no > FEW * asked]
        return max(
            (second + 1 - STEP_SECONDS for second in bad if second >= STEP_SECONDS), default=0
        )

    def _look(self, now: float) -> None:
        count, passed = len(self.workers), now - self._looked_at
        done = sum(worker.busy for worker in self.workers)
        use = (done - self._done) / passed / count
        if self._by_demand:
            use = self._asked * self._price.request / passed / count
        wanted = math.ceil(round(count / WORKERS * use / AIM, 3))
        more = wanted - count // WORKERS - sum(coming for _, coming in self._coming)
        if more > 0:
            heapq.heappush(self._coming, (now + START_SECONDS, more))
        self._looked_at, self._done, self._asked = now, done, 0


def run() -> list[Row]:
    """Return a row for each question."""
    return [*_cpu_rows(), *_database_rows(), *_scaling_rows()]


def beside(rows: list[Row]) -> list[Row]:
    """Return what the simulation says of the one worker that was measured, for each such row."""
    found = []
    for row in rows:
        before, _, multiple = row.name.partition(" x, ")[0].rpartition(" ")
        if before == "overload" and MEASURED in row.name and row.measured is not None:
            capacity = statistics.median(each["capacity"] for each in row.counts["passes"])
            price = Price(1 / capacity, row.counts["refusal_us"] / 1e6)
            outcome = served([Worker()], float(multiple), evenly, 20.0, price)
            again = _row(f"one worker as measured, {multiple} x", outcome, float(multiple))
            again.counts["measured"] = row.measured
            found.append(again)
    return found


def _cpu_rows() -> Iterator[Row]:
    for pods, seconds in ((100, 2.0), (1000, 0.5)):
        for name, choose in (("even", evenly), ("uneven", unevenly)):
            for load in (0.7, *MULTIPLES):
                found = cpu_bound(pods, load, choose, seconds=seconds)
                yield _row(f"{pods} pods, {name} balancer, {load:g} x", found, load)


def _database_rows() -> Iterator[Row]:
    for pods in (100, 1000):
        for pool in (10, 1):
            for load in MULTIPLES:
                fleet = DatabaseFleet(pods, Database(), pool=pool)
                found = fleet.ask(load, seconds=3)
                name = f"{pods} pods, pools of {pool}, a database of 32 cores, {load:g} x"
                yield _row(name, found, load)


def _scaling_rows() -> Iterator[Row]:
    for by_demand, what in ((False, "CPU"), (True, "what is asked for")):
        for load in (2.0, 4.0):
            fleet = ScalingFleet(20, by_demand=by_demand, price=LARGE)
            seconds = fleet.ask(load, seconds=200)
            yield Row(
                f"{SIMULATED}20 pods at their aim, then {load:g} x, autoscaler by {what}",
                "",
                round(seconds, 1),
                "s until few were refused",
                None,
                counts={"refused": fleet.outcome.refused, "asked": fleet.outcome.asked},
            )


def _row(name: str, found: Outcome, load: float) -> Row:
    served = len([took for took in found.took if took <= USEFUL_SECONDS])
    capacity = found.asked / load
    return Row(
        f"{SIMULATED}{name}",
        "",
        round(served / capacity, 3),
        "of capacity",
        None,
        counts={
            "refused": round(found.refused / found.asked, 3),
            "p99_ms": round(found.p99 * 1000),
            "mean_ms": round(statistics.mean(found.took or [0]) * 1000),
        },
    )
