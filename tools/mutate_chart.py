"""Break the chart's templates by rule, one place at a time, and see the chart's tests turn red.

python tools/mutate_chart.py [--each N] [--quarter N] [--quick] [words of a file or a rule ...]

A mutation is killed by the first check that fails; the suites of helm-unittest come first, for they
take the least time. Where they pass, the releases of the corpus are rendered: a mutation that
changes none of them is equivalent. What is left runs through the tests in tests/chart. What these
let pass as well has survived, and must be listed in mutations-chart.toml with the reason why.
With `--quarter N` every fourth is tried, as in tools/mutate.py, and all that is listed.
"""

import argparse
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

TEMPLATE = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TEMPLATE))

from tools.chart_bench import CHART, Bench, Usual  # noqa: E402 (found from anywhere)
from tools.chart_mutations import chosen, mutations  # noqa: E402
from tools.chart_report import Verdict, write  # noqa: E402
from tools.chart_source import Mutation  # noqa: E402
from tools.mutate import quarter_of  # noqa: E402

REASONS = TEMPLATE / "tools/mutations-chart.toml"
REPORT = TEMPLATE / "build/reports/mutations-chart"
AT_ONCE = 2
EACH = 15  # of each template: 300 in all
MOST_SURVIVORS = 3

Survivor = tuple[str, str, str, str]  # file, rule, before, after


def identity(found: Mutation | Verdict) -> Survivor:
    """Return what tells a mutation from others, wherever its lines have moved."""
    return found.file, found.rule, found.before, found.after


def listed() -> dict[Survivor, str]:
    """Return the reason why a mutation may survive, for each that may."""
    entries: list[dict[str, str]] = tomllib.loads(REASONS.read_text(encoding="utf-8"))["survivor"]
    return {
        (each["file"], each["rule"], each["before"], each["after"]): each["reason"]
        for each in entries
    }


def choose(words: Sequence[str], each: int, quarter: int | None = None) -> list[Mutation]:
    """Return the mutations to try: those that words name, or some of each file and the listed."""
    every = list(mutations(TEMPLATE / CHART))
    if words:
        return [one for one in every if any(word in f"{one.file} {one.rule}" for word in words)]
    some = quarter_of(chosen(every, each), quarter)
    return some + [one for one in every if identity(one) in listed() and one not in some]


def complaints(verdicts: Iterable[Verdict], reasons: dict[Survivor, str]) -> list[str]:
    """Say what is wrong with the survivors: unlisted, listed for nothing, or too many."""
    tried = {identity(verdict): verdict for verdict in verdicts}
    survived = {key for key, verdict in tried.items() if verdict.verdict == "survived"}
    found = [f"survived: {tried[key]}" for key in sorted(survived - reasons.keys())]
    found += [
        f"listed as a survivor, but {tried[key].verdict}: {tried[key]}"
        for key in sorted((reasons.keys() & tried.keys()) - survived)
    ]
    if len(survived) > MOST_SURVIVORS:
        found.append(f"{len(survived)} survived, and {MOST_SURVIVORS} may")
    return found


def gone(every: Iterable[Mutation], reasons: dict[Survivor, str]) -> list[str]:
    """Say which listed survivors no rule makes any more."""
    left = reasons.keys() - {identity(one) for one in every}
    return [f"listed as a survivor, but no such mutation is made: {key}" for key in sorted(left)]


@dataclass(frozen=True)
class Trial:
    """Where mutations are tried, and what the unbroken chart does."""

    benches: SimpleQueue[Bench]
    usual: Usual
    quick: bool

    def judge(self, mutation: Mutation) -> Verdict:
        """Try a mutation as soon as a bench is free."""
        bench = self.benches.get()
        try:
            began = time.monotonic()
            verdict, by = bench.judge(mutation, self.usual, quick=self.quick)
            seconds = round(time.monotonic() - began, 1)
        finally:
            self.benches.put(bench)
        return Verdict(
            file=mutation.file,
            line=mutation.line,
            rule=mutation.rule,
            before=mutation.before,
            after=mutation.after,
            verdict=verdict,
            by=by,
            seconds=seconds,
        )


def run(todo: Sequence[Mutation], folder: Path, *, quick: bool) -> list[Verdict]:
    """Try every mutation, some at a time, and print each verdict."""
    benches: SimpleQueue[Bench] = SimpleQueue()
    whole = Bench(folder / "whole")
    print("The unbroken chart must pass every check first", flush=True)
    if failed := whole.failing("", quick=quick):
        sys.exit(f"error: it does not pass {failed}: run `make chart` first")
    for number in range(AT_ONCE):
        benches.put(Bench(folder / str(number)))
    trial = Trial(benches, Usual(whole), quick)
    with ThreadPoolExecutor(AT_ONCE) as threads:
        verdicts = []
        for verdict in threads.map(trial.judge, todo):
            print(verdict, flush=True)
            verdicts.append(verdict)
    return verdicts


def main(arguments: Sequence[str]) -> int:
    """Return 1 when something survived that may not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="*", help="try all whose file or rule has one of these")
    parser.add_argument("--each", type=int, default=EACH, help="how many of each file to try")
    parser.add_argument("--quarter", type=int, help="try every fourth, from this modulo four on")
    parser.add_argument("--quick", action="store_true", help="leave out the tests in tests/chart")
    options = parser.parse_args(arguments)
    began = time.monotonic()
    every = list(mutations(TEMPLATE / CHART))
    todo = choose(options.words, options.each, options.quarter)
    with tempfile.TemporaryDirectory(prefix="mutate-chart-") as folder:
        verdicts = run(todo, Path(folder), quick=options.quick)
    reasons = listed()
    summary = write(REPORT, len(every), verdicts, reasons, time.monotonic() - began)
    print(summary)
    wrong = gone(every, reasons) + complaints(verdicts, reasons)
    print("\n".join(f"error: {each}" for each in wrong))
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
