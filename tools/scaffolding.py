"""Generate services and copy the template, as the tools, the benchmarks and the tests do."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType


def scaffold(
    template: Path | str,
    folder: Path,
    *,
    answers: Mapping[str, str] = MappingProxyType({}),
    environment: Mapping[str, str] = os.environ,
) -> Path:
    """Generate a service with `answers` over the defaults into `folder`, and return its own."""
    folder.mkdir(parents=True, exist_ok=True)
    before = set(folder.iterdir())
    with tempfile.TemporaryDirectory() as rubbish:
        subprocess.run(
            [
                *(sys.executable, "-m", "cookiecutter", template, "--output-dir", folder),
                *("--no-input", "--default-config"),
                *(f"{name}={text}" for name, text in answers.items()),
            ],
            # cookiecutter leaves its rendered hooks in the temporary folder.
            env={**environment, "TMPDIR": rubbish},
            check=True,
        )
    (service,) = set(folder.iterdir()) - before
    return service


def clone(template: Path, folder: Path) -> Path:
    """Copy what git would put into a fresh clone once everything is committed; links stay links."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=template, stdout=subprocess.PIPE, text=True, check=True)
    for name in listed.stdout.split("\0"):
        # What is deleted and not committed is listed too.
        if name and (template / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(template / name, folder / name, follow_symlinks=False)
    return folder
