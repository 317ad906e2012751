"""Scaffold a service from the defaults and run a suite of the library's tests on it, unedited.

    python -m tools.on_service {runtime,image,e2e,faults} [NAME=VALUE...]

The arguments are answers to cookiecutter. The tables that the tests write lie in build/reports/ of
this folder when they end, also when they fail.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from tools.scaffolding import scaffold

TEMPLATE = Path(__file__).resolve().parents[1]
REPORTS = TEMPLATE / "build/reports"
# They need the image of the service.
WITH_IMAGE = {"image", "e2e"}


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
    return [sys.executable, "-m", "pytest", "--verbose", "--durations=12", *arguments]


def environment(service: Path) -> dict[str, str]:
    """Return an environment in which the library's tests run `service`."""
    return clean(os.environ) | {"SLIPWAY_SERVICE": str(service)}


def main(suite: str, *answers: str) -> int:
    """Do it all and return the status of pytest."""
    os.environ.setdefault("E2E_BEGAN", str(int(time.time())))
    with tempfile.TemporaryDirectory(prefix=f"{suite}-") as folder:
        service = scaffold(
            TEMPLATE, Path(folder), answers=dict(each.split("=", 1) for each in answers)
        )
        if suite in WITH_IMAGE:
            make(service, "image")
        status = subprocess.run(
            command(f"tests/{suite}"), cwd=TEMPLATE / "kit", env=environment(service), check=False
        ).returncode
    page = REPORTS / f"{suite}.md"
    if page.exists():
        print(page.read_text(encoding="utf-8"))
    return status


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
