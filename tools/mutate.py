"""Break the service on purpose, one line at a time, and see its tests turn red.

A mutation that no test notices is a promise that nobody holds. The table is `mutations.toml`; each
entry names a file, what to replace, and the tests that must fail. Those tests must pass first.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

TEMPLATE = Path(__file__).resolve().parents[1]
SERVICE = TEMPLATE / "<<cookiecutter.project_slug>>"
NOT_COPIED = shutil.ignore_patterns(".venv", ".*_cache", ".coverage*")
# A mutation that makes a test hang is noticed as well.
SECONDS = 180
# All tests together, before anything is broken.
ALL_SECONDS = 1200


@dataclass(frozen=True)
class Mutation:
    """One line of the service turned wrong."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def apply(self, service: Path) -> None:
        """Write the mutated file, or raise when the line to replace is not there just once."""
        path = service / self.file
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


def passes(service: Path, tests: tuple[str, ...], *, seconds: float = SECONDS) -> bool:
    """Run the tests in `service`; one that hangs has not passed."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    try:
        done = subprocess.run(
            command, cwd=service, capture_output=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    if done.returncode not in {0, 1}:
        sys.exit(f"error: pytest could not run {tests}: {done.stdout.decode()[-2000:]}")
    return done.returncode == 0


def survives(whole: Path, mutation: Mutation) -> bool:
    """Break a copy of the service, and tell whether its tests pass all the same."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="broken-", dir=whole.parent) as folder:
        broken = Path(folder) / "service"
        shutil.copytree(whole, broken, ignore=NOT_COPIED)
        mutation.apply(broken)
        survived = passes(broken, mutation.tests)
    verdict = "SURVIVED" if survived else "killed"
    print(f"{verdict:8}  {time.monotonic() - began:5.1f} s  {mutation.name}", flush=True)
    return survived


def main(wanted: list[str]) -> int:
    """Try every mutation, or those whose names hold one of the words; return how many survive."""
    mutations = [m for m in load() if not wanted or any(word in m.name for word in wanted)]
    with tempfile.TemporaryDirectory(prefix="mutate-") as folder:
        whole = Path(folder) / "whole"
        shutil.copytree(SERVICE, whole, ignore=NOT_COPIED)
        tests = tuple(dict.fromkeys(test for m in mutations for test in m.tests))
        print(f"{len(tests)} tests must pass before anything is broken", flush=True)
        if not passes(whole, tests, seconds=ALL_SECONDS):
            sys.exit("error: they do not: run `make test` and `make test-runtime` first")
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            survived = list(threads.map(partial(survives, whole), mutations))
    survivors = sum(survived)
    print(f"{len(mutations) - survivors} passed, {survivors} failed")
    return survivors


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:]), 1))
