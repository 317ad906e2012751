"""Break the library and the service on purpose, one line at a time, and see their tests turn red.

    python tools/mutate.py [--quarter N] [words of a name ...]

A mutation that no test notices is a promise that nobody holds. The table is `mutations.toml`; each
entry names a file, what to replace, and the tests that must fail. Those tests must pass first.
With `--quarter N` every fourth entry is tried, beginning with entry N modulo 4: four numbers in a
row, such as the numbers of commits, try all of the table.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

TEMPLATE = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TEMPLATE))

from tools.scaffolding import clone  # noqa: E402 (found from anywhere)

SERVICE = "<<cookiecutter.project_slug>>"
QUARTERS = 4
T = TypeVar("T")
# A mutation that makes a test hang is noticed as well.
SECONDS = 180
# All tests together, before anything is broken.
ALL_SECONDS = 1200
SHOWN = 2000  # characters of what pytest says


def located(path: str) -> tuple[str, str]:
    """Return the project that a path of the table lies in, and the path inside of it."""
    return ("kit", path.removeprefix("kit/")) if path.startswith("kit/") else (SERVICE, path)


@dataclass(frozen=True)
class Mutation:
    """One line turned wrong; paths begin with `kit/`, or lie in the service."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def apply(self, tree: Path) -> None:
        """Write the mutated file, or raise when the line to replace is not there just once."""
        path = tree.joinpath(*located(self.file))
        text = path.read_text(encoding="utf-8")
        if text.count(self.old) != 1:
            message = f"{self.name}: {self.file} holds {text.count(self.old)} times: {self.old!r}"
            raise LookupError(message)
        path.write_text(text.replace(self.old, self.new), encoding="utf-8")
        # Python takes a file of the same size and second for the one that it compiled before.
        shutil.rmtree(path.parent / "__pycache__", ignore_errors=True)


def load() -> list[Mutation]:
    """Read the table."""
    table = tomllib.loads((TEMPLATE / "tools/mutations.toml").read_text(encoding="utf-8"))
    return [Mutation(**{**entry, "tests": tuple(entry["tests"])}) for entry in table["mutation"]]


def quarter_of(every: Sequence[T], number: int | None) -> list[T]:
    """Return every fourth, from `number` modulo four on; all when there is no number."""
    return list(every if number is None else every[number % QUARTERS :: QUARTERS])


def named(every: Sequence[Mutation], words: Sequence[str]) -> list[Mutation]:
    """Return the entries whose name holds one of the words, or all when there are none."""
    return [one for one in every if not words or any(word in one.name for word in words)]


def failure(tree: Path, tests: Sequence[str], *, seconds: float = SECONDS) -> str:
    """Run the tests of a tree; return what pytest says of one that fails or hangs, if one does."""
    places = [located(test) for test in tests]
    for project in dict(places):
        own = [test for where, test in places if where == project]
        if said := _pytest(tree / project, own, seconds=seconds):
            return said
    return ""


def _pytest(project: Path, tests: Sequence[str], *, seconds: float) -> str:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    environment = {name: text for name, text in os.environ.items() if name != "SLIPWAY_SERVICE"}
    try:
        done = subprocess.run(
            command,
            cwd=project,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"not within {seconds} s: {tests}"
    if done.returncode not in {0, 1}:
        sys.exit(f"error: pytest could not run {tests}: {done.stdout[-SHOWN:]}")
    return done.stdout[-SHOWN:] if done.returncode else ""


def survives(whole: Path, mutation: Mutation) -> bool:
    """Break a copy of the tree, and tell whether the tests pass all the same."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="broken-", dir=whole.parent) as folder:
        broken = Path(folder) / "tree"
        shutil.copytree(whole, broken, symlinks=True)
        mutation.apply(broken)
        survived = not failure(broken, mutation.tests)
    verdict = "SURVIVED" if survived else "killed"
    print(f"{verdict:8}  {time.monotonic() - began:5.1f} s  {mutation.name}", flush=True)
    return survived


def main(arguments: Sequence[str]) -> int:
    """Try mutations; return how many survive."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="*", help="try those whose name holds one of these")
    parser.add_argument("--quarter", type=int, help="try every fourth, from this modulo four on")
    options = parser.parse_args(arguments)
    mutations = quarter_of(named(load(), options.words), options.quarter)
    with tempfile.TemporaryDirectory(prefix="mutate-") as folder:
        whole = clone(TEMPLATE, Path(folder) / "whole")
        tests = tuple(dict.fromkeys(test for m in mutations for test in m.tests))
        print(f"{len(tests)} tests must pass before anything is broken", flush=True)
        if said := failure(whole, tests, seconds=ALL_SECONDS):
            sys.exit(f"error: they do not; `make test test-runtime` comes first: {said}")
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            survived = list(threads.map(partial(survives, whole), mutations))
    survivors = sum(survived)
    print(f"{len(mutations) - survivors} passed, {survivors} failed")
    return survivors


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:]), 1))
