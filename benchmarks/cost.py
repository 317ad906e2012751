"""What a request costs in the generated service, as a share of what bare FastAPI serves."""

import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import load, services
from benchmarks.report import Row
from benchmarks.servers import Server, Variant, running

SMALL = "/api/v1/items/5?q=3"
LIST = "/api/v1/games?limit=20"
NAIVE = "/api/v1/naive?limit=20"
LAST = "/api/v1/kind199/5?q=3"
BARE = "bare FastAPI"
GAMES = "INSERT INTO games (name, price) SELECT 'game ' || n, n FROM generate_series(1, 40) n"


@dataclass(frozen=True)
class Goal:
    """A variant and what it is asked for, and the share of the first one's throughput to reach."""

    variant: Variant
    path: str
    least: float | None = None


@dataclass(frozen=True)
class Contest:
    """Ways to answer the same, each compared with the first."""

    name: str
    first: str
    goals: tuple[Goal, ...]


def small_answer(service: Path) -> Contest:
    """Return the ways to serve one small JSON object."""
    full = services.full
    return Contest(
        "small JSON object",
        BARE,
        (
            Goal(services.bare("benchmarks.items:bare()"), SMALL),
            Goal(full(service, "the service without traces"), SMALL),
            Goal(full(service, "the service, 10 % of traces", sampled=0.1), SMALL, 0.90),
            Goal(full(service, "the service, every trace", sampled=1), SMALL, 0.65),
        ),
    )


def last_route(service: Path) -> Contest:
    """Return the ways to serve the last of two hundred routes."""
    return Contest(
        "the last of 200 routes",
        BARE,
        (
            Goal(services.bare("benchmarks.many:bare()"), LAST),
            Goal(services.full(service, "the service, 10 % of traces", sampled=0.1), LAST),
        ),
    )


def lists(service: Path, database: dict[str, str]) -> list[Contest]:
    """Return the ways to serve twenty games of a table."""
    # The bare one runs the query of the service.
    bare = services.bare("benchmarks.listing:bare()", folder=service, **database)
    one_step = services.bare(
        "benchmarks.listing:bare_in_one_step()",
        folder=service,
        name="bare FastAPI, rows read as the service reads them",
        **database,
    )
    full = services.full(service, "the service, 10 % of traces", sampled=0.1, settings=database)
    naive = services.full(service, "objects in a transaction", sampled=0.1, settings=database)
    return [
        Contest("20 games", BARE, (Goal(bare, LIST), Goal(full, LIST, 0.95), Goal(one_step, LIST))),
        Contest(
            "20 games, beside objects in a transaction",
            naive.name,
            (Goal(naive, NAIVE), Goal(full, LIST, 1.7)),
        ),
    ]


def run(folder: Path, *, rounds: int, seconds: int) -> list[Row]:
    """Measure, round by round in turn, and return a row for each variant."""
    plain = services.scaffold(folder / "small", example="none")
    shop = services.scaffold(folder / "shop")
    services.with_feature(shop, "listing", *services.SHOP)
    many = services.with_feature(services.scaffold(folder / "many", example="none"), "many")
    with ExitStack() as stack:
        stack.enter_context(_collector())
        database = stack.enter_context(services.database(shop))
        services.migrate(shop, database, GAMES)
        contests = [
            small_answer(services.with_feature(plain, "items")),
            last_route(many),
            *lists(shop, database),
        ]
        return [
            row for contest in contests for row in compete(contest, rounds=rounds, seconds=seconds)
        ]


def compete(contest: Contest, *, rounds: int, seconds: int) -> list[Row]:
    """Start the servers of a contest and compare them."""
    with ExitStack() as stack:
        servers = [stack.enter_context(running(goal.variant)) for goal in contest.goals]
        return compare(contest, servers, rounds=rounds, seconds=seconds)


def compare(contest: Contest, servers: list[Server], *, rounds: int, seconds: int) -> list[Row]:
    """Load the servers in turn; each is compared with the first one of the same round."""
    pairs = list(zip(contest.goals, servers, strict=True))
    for goal, server in pairs:
        load.measure(server, goal.path, seconds=1)
    samples = [
        [load.measure(server, goal.path, seconds=seconds) for goal, server in pairs]
        for _ in range(rounds)
    ]
    rows = []
    for number, goal in enumerate(contest.goals):
        rates = [found[number].requests_a_second for found in samples]
        shares = [found[number].requests_a_second / found[0].requests_a_second for found in samples]
        cpu = [found[number].cpu_microseconds for found in samples]
        share = round(statistics.median(shares), 3)
        rows.append(
            Row(
                name=f"{contest.name}: {goal.variant.name}",
                goal=f"at least {goal.least:.2f} of {contest.first}" if goal.least else "",
                measured=share,
                unit=f"of {contest.first}",
                ok=share >= goal.least if goal.least else None,
                counts={
                    "requests_a_second": round(statistics.median(rates)),
                    "cpu_us_a_request": round(statistics.median(cpu), 1),
                    "shares": [round(each, 3) for each in shares],
                },
            )
        )
    return rows


@contextmanager
def _collector() -> Iterator[None]:
    command = [sys.executable, "-m", "benchmarks.collector", services.COLLECTOR_PORT]
    process = subprocess.Popen(command, cwd=services.TEMPLATE)
    try:
        yield
    finally:
        process.terminate()
        process.wait()
