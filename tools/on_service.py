"""Scaffold a service from the defaults and run one of its make targets, nothing edited between.

    python -m tools.on_service TARGET [NAME=VALUE...]

The arguments are answers to cookiecutter. The tables that the target writes lie in build/reports/
of this folder when it ends, also when it fails.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tools.scaffolding import scaffold

TEMPLATE = Path(__file__).resolve().parents[1]
REPORTS = Path("build/reports")


def main(target: str, *answers: str) -> int:
    """Do it all and return the status of the service's make."""
    environment = os.environ | {"E2E_BEGAN": str(int(time.time()))}
    with tempfile.TemporaryDirectory(prefix=f"{target}-") as folder:
        service = scaffold(
            TEMPLATE, Path(folder), answers=dict(each.split("=", 1) for each in answers)
        )
        status = subprocess.run(
            [shutil.which("make") or "make", f"VENV={sys.prefix}", target],
            cwd=service,
            env={name: value for name, value in environment.items() if "MAKE" not in name},
            check=False,
        ).returncode
        if (service / REPORTS).is_dir():
            shutil.copytree(service / REPORTS, TEMPLATE / REPORTS, dirs_exist_ok=True)
    page = TEMPLATE / REPORTS / f"{target}.md"
    if page.exists():
        print(page.read_text(encoding="utf-8"))
    return status


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
