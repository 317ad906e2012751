"""What becomes of requests when more come than can be served.

One worker has a core; generator, PostgreSQL and the upstream share the other. Capacity is measured
in the same pass: so many answers a second when clients wait for each. Then requests come at 1, 2
and 4 times that rate, open loop, and at half of it afterwards.
"""

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from benchmarks import services
from benchmarks.report import RULE, Row
from benchmarks.servers import BenchError, Server, Variant, running
from tools.processes import free_port

MULTIPLES = (1.0, 2.0, 4.0)
PROBE, PROBES_A_SECOND = "/livez", 20.0
CALM_SECONDS = 3.0
# An answer that comes later is of no use; what the goals say of those in time; seconds.
USEFUL_SECONDS = 0.5
P99_SECONDS = 0.3
REFUSAL_SECONDS = 0.05
PROBE_SECONDS = 0.3
RECOVERY_SECONDS = 2.0
GOODPUT = 0.9
# Of the bound that the price of a refusal allows to a cheap route.
OF_BOUND = 0.9
# A generator that is later than this measures itself.
LATE_SECONDS = 0.005
OK = 200
LIMITS = {
    "DATABASE_POOL_SIZE": "5",
    "THREADPOOL_TOKENS": "8",
    "HTTP_CLIENT_MAX_CONNECTIONS": "10",
}


@dataclass(frozen=True)
class Case:
    """Routes that are asked in turn, by so many connections where capacity is measured."""

    name: str
    paths: tuple[str, ...]
    connections: int
    # A route so cheap that a refusal costs a good part of it has another goal.
    cheap: bool = False
    # Of requests that bring one.
    body_bytes: int = 0

    def streams(self, rate: float, begin: float, end: float) -> list["Stream"]:
        """Return the requests of all its routes, `rate` a second together."""
        share = rate / len(self.paths)
        return [Stream(path, share, begin, end, self.body_bytes) for path in self.paths]


CASES = (
    Case("CPU, 2 ms on the loop", ("/api/v1/cpu",), 16),
    Case("database, 10 ms, pool of 5", ("/api/v1/database",), 16),
    Case("threads, 20 ms, 8 of them", ("/api/v1/thread",), 20),
    Case("upstream, 50 ms, 10 connections", ("/api/v1/upstream",), 20),
    Case(
        "a mix of these four",
        ("/api/v1/cpu", "/api/v1/database", "/api/v1/thread", "/api/v1/upstream"),
        24,
    ),
    Case("small JSON object", ("/api/v1/small",), 16, cheap=True),
)


@dataclass(frozen=True)
class Pass:
    """What one pass showed; rates a second, times in seconds."""

    capacity: float
    multiple: float
    goodput: float
    p99: float
    refused: int
    refusal_p99: float
    failed: int
    probe_failures: int
    probe_worst: float
    recovery: float
    lateness_p99: float
    # Useful answers of each route, of all that were asked of it.
    by_route: tuple[float, ...]

    @property
    def void(self) -> bool:
        """Whether the generator could not keep up."""
        return self.lateness_p99 > LATE_SECONDS

    def keeps(self, least_goodput: float, *, cheap: bool = False) -> bool:
        """Tell whether it reached every goal; those of time are not for cheap routes."""
        in_time = self.p99 <= P99_SECONDS and self.refusal_p99 <= REFUSAL_SECONDS
        return (
            self.goodput >= least_goodput
            and (in_time or cheap)
            and self.failed == 0
            and self.probe_failures == 0
            and self.probe_worst <= PROBE_SECONDS
            and self.recovery <= RECOVERY_SECONDS
        )


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that `share` of all do not exceed; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


@dataclass(frozen=True)
class Stream:
    """Requests for one path at random moments; seconds, and a second."""

    path: str
    rate: float
    begin: float
    end: float
    body_bytes: int = 0


# When a request was due, how long after that it was answered, its status (0 is no answer), and the
# number of its stream.
Answer = tuple[float, float, int, int]


@dataclass(frozen=True)
class Result:
    """What became of requests, and how late each was sent; seconds."""

    answers: list[Answer]
    lateness: list[float]


def generate(server: Server, streams: list[Stream], *, seed: int = 0, closed: int = 0) -> Result:
    """Run the service's own generator, in a process of its own."""
    plan = {
        "port": server.port,
        "streams": [asdict(stream) for stream in streams],
        "seed": seed,
        "closed": closed,
        "tls": server.variant.tls,
    }
    done = subprocess.run(
        [sys.executable, "-m", "slipway_kit.dev.openloop"],
        cwd=server.variant.folder,
        input=json.dumps(plan),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    return Result([tuple(answer) for answer in found["answers"]], found["lateness"])


def capacity(server: Server, case: Case, *, seconds: float) -> float:
    """Return how many answers a second clients get who wait for each."""
    found = generate(server, case.streams(0, 0, seconds), closed=case.connections)
    served = sum(status == OK for _, _, status, _ in found.answers)
    if not served:
        raise BenchError(f"{server.variant.name} serves nothing of {case.name}")
    return served / seconds


def strain(  # noqa: PLR0913 (what is asked of whom)
    server: Server, case: Case, rate: float, multiple: float, *, seconds: float, seed: int
) -> Pass:
    """Ask for `multiple` times the rate that can be served, then for half of it."""
    end = seconds + CALM_SECONDS
    streams = [
        *case.streams(rate * multiple, 0, seconds),
        *case.streams(rate / 2, seconds, end),
        Stream(PROBE, PROBES_A_SECOND, 0, end),
    ]
    found = generate(server, streams, seed=seed)
    return judge(found, len(case.paths), rate, multiple, seconds=seconds)


def judge(found: Result, count: int, rate: float, multiple: float, *, seconds: float) -> Pass:
    """Sum up what became of requests; the first `count` streams are the load."""
    load = [answer for answer in found.answers if answer[3] < count]
    calm = [answer for answer in found.answers if count <= answer[3] < 2 * count]
    probes = [answer for answer in found.answers if answer[3] == 2 * count]
    served = [took for _, took, status, _ in load if status == OK]
    refusals = [took for _, took, status, _ in load if status == services.REFUSED]
    useful = sum(took <= USEFUL_SECONDS for took in served)
    bad = [due for due, took, status, _ in calm if status != OK or took > P99_SECONDS]
    return Pass(
        capacity=round(rate, 1),
        multiple=multiple,
        goodput=round(useful / seconds / rate, 3),
        p99=round(percentile(served, 0.99), 4),
        refused=len(refusals),
        refusal_p99=round(percentile(refusals, 0.99), 4),
        failed=len(load) - len(served) - len(refusals),
        probe_failures=sum(status != OK for _, _, status, _ in probes),
        probe_worst=round(max((took for _, took, _, _ in probes), default=0.0), 4),
        recovery=round(max(bad, default=seconds) - seconds, 3),
        lateness_p99=round(percentile(found.lateness, 0.99), 5),
        by_route=tuple(_useful([each for each in load if each[3] == n]) for n in range(count)),
    )


def _useful(asked: list[Answer]) -> float:
    """Return the share of requests that were answered in time."""
    useful = sum(status == OK and took <= USEFUL_SECONDS for _, took, status, _ in asked)
    return round(useful / max(len(asked), 1), 3)


@contextmanager
def surroundings(folder: Path) -> Iterator[tuple[Path, dict[str, str], int]]:
    """Give a service with the strained routes, the settings for what it waits for, its upstream."""
    with ExitStack() as stack:
        service = services.with_feature(
            services.scaffold(folder / "strained", example="none"), "strained"
        )
        found = stack.enter_context(services.database(service))
        port = str(free_port())
        command = [sys.executable, "-m", "benchmarks.upstream", port, "0.05"]
        upstream = stack.enter_context(subprocess.Popen(command, cwd=services.TEMPLATE))
        stack.callback(upstream.terminate)
        yield service, LIMITS | found | {"UPSTREAM_URL": f"http://127.0.0.1:{port}/"}, upstream.pid


def socket_folder(url: str) -> str:
    """Return the folder of the socket that a database URL names."""
    return parse_qs(urlsplit(url).query)["host"][0]


def own(service: Path, settings: dict[str, str]) -> Variant:
    """Return the service as it is."""
    return services.full(service, "the service", settings=settings)


def by_rule(service: Path, settings: dict[str, str], rule: str) -> Variant:
    """Return the service with another rule at its door."""
    variant = services.full(service, rule, settings={"ADMISSION": "off", **settings})
    command = (str(services.BIN / "gunicorn"), f"benchmarks.rules:{rule}()")
    return Variant(rule, command, service, variant.environment)


def refusal_seconds(service: Path, settings: dict[str, str]) -> float:
    """Return the CPU time of a refusal."""
    refusing = by_rule(service, settings | {"ADMISSION": "protocol"}, "refusing")
    with running(refusing) as server:
        before = server.cpu_seconds()
        answers = generate(server, [Stream(CASES[-1].paths[0], 0, 0, 2)], closed=16).answers
        if any(status != services.REFUSED for _, _, status, _ in answers):
            raise BenchError("what a refusal costs is not known: a request was served")
        return (server.cpu_seconds() - before) / len(answers)


def bound(multiple: float, share: float) -> float:
    """Return the goodput that is left when a refusal costs `share` of a request.

    Of k requests for one that can be served, a are served and k - a refused: a + (k - a) share = 1.
    """
    if multiple <= 1:
        return 1.0
    return max(1 - multiple * share, 0.0) / (1 - share) if share < 1 else 0.0


def run(folder: Path, *, passes: int, seconds: float) -> list[Row]:
    """Strain every case at every multiple, and return a row for each."""
    found: dict[tuple[Case, float], list[Pass]] = {}
    with surroundings(folder) as (service, settings, _), running(own(service, settings)) as server:
        for number in range(passes):
            for case in CASES:
                rate = capacity(server, case, seconds=2)
                for multiple in MULTIPLES:
                    seen = strain(server, case, rate, multiple, seconds=seconds, seed=number)
                    found.setdefault((case, multiple), []).append(seen)
        price = refusal_seconds(service, settings)
    return [row(case, multiple, seen, price) for (case, multiple), seen in found.items()]


def compare_rules(folder: Path, *, seconds: float) -> list[Row]:
    """Strain every case under other rules at route shedding too, and return a row for each."""
    rows = []
    with surroundings(folder) as (service, settings, _):
        variants = {
            "the service's": own(service, settings),
            "in a middleware": own(service, settings | {"ADMISSION": "middleware"}),
            "gates alone": own(service, settings | {"ADMISSION": "off"}),
            "24 at a time": by_rule(service, settings, "fixed"),
            "by loop lag": by_rule(service, settings, "lag"),
        }
        for name, variant in variants.items():
            with running(variant) as server:
                for case in CASES:
                    rate = capacity(server, case, seconds=2)
                    for multiple in MULTIPLES:
                        seen = strain(server, case, rate, multiple, seconds=seconds, seed=0)
                        rows.append(_rule_row(name, case, multiple, seen))
    return rows


def _rule_row(rule: str, case: Case, multiple: float, seen: Pass) -> Row:
    return Row(
        f"{RULE}{rule}: {multiple:g} x, {case.name}",
        "",
        None if seen.void else seen.goodput,
        "of capacity",
        None,
        reason="void" if seen.void else "",
        counts={"passes": [asdict(seen)]},
    )


def row(case: Case, multiple: float, seen: list[Pass], price: float) -> Row:
    """Sum up the passes of one case, without those that were void."""
    valid = [each for each in seen if not each.void]
    least = GOODPUT
    if case.cheap:
        rate = statistics.median(each.capacity for each in seen)
        least = round(OF_BOUND * bound(multiple, price * rate), 2)
    goodput = [each.goodput for each in valid]
    kept = sum(each.keeps(least, cheap=case.cheap) for each in valid)
    return Row(
        name=f"overload {multiple:g} x, {case.name}",
        goal=f"goodput at least {least:.2f} of capacity{'' if case.cheap else ', in time'}",
        measured=round(statistics.median(goodput), 3) if goodput else None,
        unit="of capacity",
        ok=kept * 2 > len(valid) if valid else None,
        reason=f"{kept} of {len(valid)} passes reached every goal; {len(seen) - len(valid)} void",
        counts={
            "shares": goodput,
            "refusal_us": round(price * 1e6, 1),
            "passes": [asdict(each) for each in seen],
        },
    )
