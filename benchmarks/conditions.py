"""The same overload under other conditions, and what its rules cost while nothing is full."""

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import trustme

from benchmarks import overload
from benchmarks.overload import CASES, Case, Stream
from benchmarks.report import CONDITION, Row
from benchmarks.servers import Server, Variant, running

MULTIPLE = 2.0
# Routes that need the loop, a connection, and each of them.
ASKED = (CASES[0], CASES[1], CASES[4])
BODIES = Case("CPU, 2 ms, bodies of 64 KiB", ("/api/v1/body",), 16, body_bytes=2**16)
LONG_SECONDS = 120.0
IDLE_SECONDS, IDLE_ROUNDS = 10.0, 9
SMALL = "/api/v1/small"


def run(folder: Path, *, passes: int, seconds: float) -> list[Row]:
    """Strain services in ways that the other parts leave out, and return a row for each."""
    with overload.surroundings(folder) as (service, settings, _):
        usual = overload.own(service, settings)
        two = overload.own(service, settings | {"WEB_CONCURRENCY": "2"})
        rows = [
            *_strained("two workers on one core", two, ASKED, passes=passes, seconds=seconds),
            *_strained("TLS", over_tls(usual, folder), ASKED, passes=passes, seconds=seconds),
            *_strained("bodies", usual, (BODIES,), passes=passes, seconds=seconds),
            _for_long(usual, seconds=LONG_SECONDS if passes > 1 else seconds),
        ]
        off = overload.own(service, settings | {"ADMISSION": "off"})
        return [*rows, *_idle(usual, off, rounds=IDLE_ROUNDS if passes > 1 else 1)]


def over_tls(variant: Variant, folder: Path) -> Variant:
    """Return the same service with a certificate."""
    made, files = trustme.CA().issue_cert("localhost"), (folder / "cert.pem", folder / "key.pem")
    made.cert_chain_pems[0].write_to_path(files[0])
    made.private_key_pem.write_to_path(files[1])
    given = {"GUNICORN_CMD_ARGS": f"--certfile={files[0]} --keyfile={files[1]}"}
    return replace(variant, environment={**variant.environment, **given}, tls=True)


def _strained(
    condition: str, variant: Variant, cases: tuple[Case, ...], *, passes: int, seconds: float
) -> list[Row]:
    found: dict[Case, list[overload.Pass]] = {case: [] for case in cases}
    with running(variant) as server:
        for number in range(passes):
            for case, seen in found.items():
                rate = overload.capacity(server, case, seconds=2)
                seen.append(
                    overload.strain(server, case, rate, MULTIPLE, seconds=seconds, seed=number)
                )
    rows = [overload.row(case, MULTIPLE, seen, price=0.0) for case, seen in found.items()]
    return [
        replace(row, name=f"{CONDITION}{condition}, {MULTIPLE:g} x, {case.name}")
        for case, row in zip(cases, rows, strict=True)
    ]


def _for_long(variant: Variant, *, seconds: float) -> Row:
    """Ask for too much of everything for minutes."""
    case = CASES[4]
    with running(variant) as server:
        rate = overload.capacity(server, case, seconds=2)
        before = server.memory_mib()
        seen = overload.strain(server, case, rate, MULTIPLE, seconds=seconds, seed=0)
        grown = round(server.memory_mib() - before, 1)
    row = overload.row(case, MULTIPLE, [seen], price=0.0)
    name = f"{CONDITION}{seconds:g} s, {MULTIPLE:g} x, {case.name}"
    return replace(row, name=name, counts=row.counts | {"memory_grown_mib": grown})


def _idle(usual: Variant, off: Variant, *, rounds: int) -> list[Row]:
    """Compare a service that has little to do with one that lets everything in."""
    with running(usual) as ours, running(off) as others:
        idle = _cpu(ours, lambda: time.sleep(IDLE_SECONDS)) / IDLE_SECONDS
        shares = []
        for _ in range(rounds):
            own, other = (_one_at_a_time(server) for server in (ours, others))
            shares.append(round(own / other, 3))
    return [
        Row(
            f"{CONDITION}a worker and its master with nothing to do",
            "",
            round(idle * 1000, 2),
            "ms of CPU a second",
            None,
        ),
        Row(
            f"{CONDITION}CPU of a small answer, one client at a time",
            "",
            round(statistics.median(shares), 3),
            "of what it is with ADMISSION=off",
            None,
            counts={"shares": shares},
        ),
    ]


def _one_at_a_time(server: Server) -> float:
    count = 0

    def ask() -> None:
        nonlocal count
        count = len(overload.generate(server, [Stream(SMALL, 0, 0, 1)], closed=1).answers)

    return _cpu(server, ask) / count


def _cpu(server: Server, work: Callable[[], object]) -> float:
    before = server.cpu_seconds()
    work()
    return server.cpu_seconds() - before
