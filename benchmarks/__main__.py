"""Measure, and write build/reports/bench.json and bench.md: `python -m benchmarks [PART...]`."""

import argparse
import os
import platform
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import (
    conditions,
    cost,
    fleet,
    lifecycle,
    overload,
    pauses,
    peers,
    plots,
    report,
    services,
)
from benchmarks.report import Row
from benchmarks.servers import BenchError, reserve_core

PACKAGES = ("fastapi", "starlette", "uvicorn", "gunicorn", "sqlalchemy", "asyncpg")


def machine() -> Row:
    """Return what a reader must know of where this was measured."""
    versions = {name: version(name) for name in PACKAGES}
    system = f"Python {platform.python_version()}, {platform.system()}, {os.cpu_count()} cores"
    return Row("where", "", system, "", None, counts=versions)


def measure_cost(folder: Path, *, smoke: bool) -> list[Row]:
    """Measure what a request costs."""
    return cost.run(folder, rounds=2 if smoke else 21, seconds=1)


def measure_overload(folder: Path, *, smoke: bool) -> list[Row]:
    """Measure what more requests do than can be served, and what a pause does."""
    rows = overload.run(folder / "loads", passes=1 if smoke else 5, seconds=1 if smoke else 5)
    return rows + pauses.run(folder / "pauses", passes=1 if smoke else 5, smoke=smoke)


def measure_lifecycle(folder: Path, *, smoke: bool) -> list[Row]:
    """Measure start, replacement and memory."""
    service = services.with_feature(
        services.scaffold(folder / "lifecycle", example="none"), "items"
    )
    return lifecycle.run(service, passes=1 if smoke else 7)


def measure_rules(folder: Path, *, smoke: bool) -> list[Row]:
    """Measure other rules at route shedding."""
    return overload.compare_rules(folder, seconds=1 if smoke else 3)


def measure_conditions(folder: Path, *, smoke: bool) -> list[Row]:
    """Measure the same overload under other conditions, and what its rules cost an idle worker."""
    return conditions.run(folder, passes=1 if smoke else 3, seconds=1 if smoke else 5)


def measure_peers(folder: Path, *, smoke: bool) -> list[Row]:
    """Measure other servers, and the service of another template."""
    return peers.run(folder, rounds=2 if smoke else 21, seconds=1)


def simulate(folder: Path, *, smoke: bool) -> list[Row]:
    """Reckon what the rules do in a fleet; that it runs is shown by its tests."""
    del folder
    return [] if smoke else fleet.run()


# Rules and conditions are measured when somebody asks for that: they take as long as all the
# others. And others are installed then, for they need a registry of packages.
ASKED_FOR = {"rules", "conditions", "peers"}
PARTS: dict[str, Callable[..., list[Row]]] = {
    "cost": measure_cost,
    "overload": measure_overload,
    "lifecycle": measure_lifecycle,
    "fleet": simulate,
    "rules": measure_rules,
    "conditions": measure_conditions,
    "peers": measure_peers,
}


def main() -> None:
    """Measure all of it; a goal that is missed is a row and no failure, for machines differ."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; or all")
    parser.add_argument("--keep", action="store_true", help="put these rows into the README")
    parser.add_argument("--smoke", action="store_true", help="show that it runs, in minutes")
    given = parser.parse_args()
    if unknown := set(given.parts) - PARTS.keys():
        parser.error(f"there is no part {min(unknown)}; there are {', '.join(PARTS)}")
    reserve_core()
    rows = [machine()]
    for name, measure in PARTS.items():
        if name in given.parts or not (given.parts or name in ASKED_FOR):
            with TemporaryDirectory(prefix="bench-") as folder:
                rows += measure(Path(folder), smoke=given.smoke)
            report.write("bench", rows)
    rows += fleet.beside(rows)
    report.write("bench", rows)
    plots.write(rows, report.FOLDER)
    if given.keep:
        report.keep(rows)
        plots.write(report.kept())
    sys.stdout.write(report.table(rows))


if __name__ == "__main__":
    try:
        main()
    except BenchError as problem:
        sys.exit(f"error: {problem}")
