"""Scaffold a service from the defaults and run a suite of the library's tests on it, unedited.

    python -m tools.on_service {runtime,image,e2e,faults} [--quarter N] [NAME=VALUE...]

The arguments are answers to cookiecutter. The tables that the tests write lie in build/reports/ of
this folder when they end, also when they fail. With COVERAGE_FILE set, coverage is measured. With
`--quarter N` a suite leaves out what QUARTERS gives to other numbers, modulo four: four in a row,
such as the numbers of commits, run all of it.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tools.scaffolding import scaffold

TEMPLATE = Path(__file__).resolve().parents[1]
KIT = TEMPLATE / "kit"
REPORTS = TEMPLATE / "build/reports"
# They need the image of the service.
WITH_IMAGE = {"image", "e2e"}
# Tests with processes wait most of their time: two files at once, each with ports and a database of
# its own, take half of it.
TOGETHER = {"runtime"}
AT_ONCE = 2
# Files of a suite that only every fourth run needs; what is not here is part of every run.
QUARTERS = {
    "e2e": (
        ("test_5_scaling.py",),
        ("test_3_migrations.py", "test_6_borders.py"),
        ("test_4_faults.py",),
        ("test_7_rolls.py", "test_8_outage.py"),
    )
}


def clean(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without what make and pytest hand to the programs that they start."""
    return {
        name: value
        for name, value in environment.items()
        if not name.startswith(("MAKE", "MFLAGS", "PYTEST_"))
    }


def make(service: Path, *targets: str) -> None:
    """Run targets of the service's make in the environment of this process."""
    program = shutil.which("make") or "make"
    command = [program, f"VENV={sys.prefix}", *targets]
    subprocess.run(command, cwd=service, env=clean(os.environ), check=True)


def command(*arguments: str) -> list[str]:
    """Return the command that runs some of the library's tests; its folder is kit/."""
    measure = ["coverage", "run", "-m"] if "COVERAGE_FILE" in os.environ else []
    return [sys.executable, "-m", *measure, "pytest", "--verbose", "--durations=12", *arguments]


def environment(service: Path) -> dict[str, str]:
    """Return an environment in which the library's tests run `service`."""
    return clean(os.environ) | {"SLIPWAY_SERVICE": str(service)}


def left_out(suite: str, quarter: int | None) -> list[str]:
    """Return the arguments that leave out what other quarters run."""
    if quarter is None or suite not in QUARTERS:
        return []
    others = [files for number, files in enumerate(QUARTERS[suite]) if number != quarter % 4]
    # Whole paths: the tests change the folder before pytest looks which files to leave out.
    folder = KIT / "tests" / suite
    return [f"--ignore={folder / file}" for files in others for file in files]


def files_of(suite: str) -> list[str]:
    """Return the files of a suite; the last in the alphabet take longest, and come first."""
    found = sorted((KIT / "tests" / suite).rglob("test_*.py"), reverse=True)
    return [str(file.relative_to(KIT)) for file in found]


def run_together(runs: Iterable[tuple[Path, str]], env: Mapping[str, str]) -> int:
    """Run tests, each in its project, AT_ONCE of them; show what each says when it has ended."""

    def run(one: tuple[Path, str]) -> int:
        folder, tests = one
        done = subprocess.run(
            command(*tests.split()),
            cwd=folder,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        print(done.stdout, flush=True)
        return done.returncode

    with ThreadPoolExecutor(AT_ONCE) as threads:
        return max(threads.map(run, runs))


def main(arguments: Sequence[str]) -> int:
    """Do it all and return the status of pytest."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("suite", choices=["runtime", "image", "e2e", "faults"])
    parser.add_argument("answers", nargs="*", metavar="NAME=VALUE")
    parser.add_argument("--quarter", type=int)
    options = parser.parse_args(arguments)
    suite: str = options.suite
    answers = dict(each.split("=", 1) for each in options.answers)
    os.environ.setdefault("E2E_BEGAN", str(int(time.time())))
    with tempfile.TemporaryDirectory(prefix=f"{suite}-") as folder:
        service = scaffold(TEMPLATE, Path(folder), answers=answers)
        if suite in WITH_IMAGE:
            make(service, "image")
        if suite in TOGETHER:
            runs = [(KIT, file) for file in files_of(suite)]
            status = run_together(runs, environment(service))
        else:
            status = subprocess.run(
                command(f"tests/{suite}", *left_out(suite, options.quarter)),
                cwd=KIT,
                env=environment(service),
                check=False,
            ).returncode
    page = REPORTS / f"{suite}.md"
    if page.exists():
        print(page.read_text(encoding="utf-8"))
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
