"""Bakes services and runs their commands."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tools import on_service, scaffolding

TEMPLATE = Path(__file__).resolve().parents[1]
SERVICE = "<<cookiecutter.project_slug>>"
VENV = Path(sys.prefix)
MINUTES = 60
SHOWN = 6000  # characters of a failing command
IN_CI = os.environ.get("CI") == "true"

# Every make target that a test of this session has run to its end in a baked service.
ran: set[str] = set()


def missing(what: str) -> None:
    """Skip the test on a laptop that lacks `what`; fail it where everything must be there."""
    if IN_CI:
        pytest.fail(f"{what} is missing, and CI=true wants every test run")
    pytest.skip(f"{what} is missing")


def environment(**more: str) -> dict[str, str]:
    """Return this process's environment without what make, coverage and pytest put into it.

    mypy reads every library once for all that is baked, in this run and the next.
    """
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("COV", "DATABASE_", "MAKE", "MFLAGS", "PYTEST_", "VENV"))
    }
    return inherited | {"MYPY_CACHE_DIR": str(TEMPLATE / "build/mypy")} | more


def run(
    *argv: object,
    cwd: Path,
    minutes: float = 5,
    env: Mapping[str, str] | None = None,
    typed: str = "",
) -> str:
    """Run a command and return what it wrote; fail with that when its status is not 0."""
    done = subprocess.run(
        [str(part) for part in argv],
        cwd=cwd,
        env=env or environment(),
        input=typed,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=minutes * MINUTES,
        check=False,
    )
    assert done.returncode == 0, f"{argv} in {cwd} ended so:\n{done.stdout[-SHOWN:]}"
    return done.stdout


def make(
    *targets: str,
    cwd: Path,
    venv: Path | str = VENV,
    minutes: float = 5,
    env: Mapping[str, str] | None = None,
) -> str:
    """Run make targets of a baked service in the environment of this test."""
    output = run("make", f"VENV={venv}", *targets, cwd=cwd, minutes=minutes, env=env)
    ran.update(targets)
    return output


def library(*arguments: str, service: Path, minutes: float = 5) -> str:
    """Run tests of the library, which lie in kit/, on `service`."""
    env = environment(SLIPWAY_SERVICE=str(service))
    return run(*on_service.command(*arguments), cwd=TEMPLATE / "kit", minutes=minutes, env=env)


def bake(source: Path | str, folder: Path, **answers: str) -> Path:
    """Bake a service with `answers` over the defaults into `folder`."""
    return scaffolding.scaffold(source, folder, answers=answers, environment=environment())


def clone(folder: Path) -> Path:
    """Copy into `folder` what git would put into a fresh clone once everything is committed."""
    return scaffolding.clone(TEMPLATE, folder)


def files(folder: Path) -> dict[str, bytes]:
    """Return the content of every file below `folder`."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in walk(folder)}


def walk(folder: Path) -> Iterator[Path]:
    """Yield every file below `folder`."""
    return (path for path in sorted(folder.rglob("*")) if path.is_file())
