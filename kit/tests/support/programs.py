"""Programs that no wheel brings: found where Debian puts them, installed in CI, else a skip."""

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest


def find(*names: str, package: str) -> Path:
    """Return the path of the program, under the first name that is there.

    Without it the test is skipped, or fails where CI=true.
    """
    found = _which(names)
    if found is None and os.environ.get("CI") == "true":
        _install(package)
        found = _which(names) or pytest.fail(f"CI needs {names[0]}: install {package}")
    if found is None:
        pytest.skip(f"{names[0]} is not installed (Debian package {package})")
    return Path(found)


def _which(names: Iterable[str]) -> str | None:
    versions = sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)
    path = os.pathsep.join([os.environ["PATH"], "/usr/sbin", *versions])
    return next(filter(None, (shutil.which(name, path=path) for name in names)), None)


def _install(package: str) -> None:
    root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if shutil.which("apt-get") is None or (root and shutil.which(root[0]) is None):
        return
    for arguments in (["update"], ["install", "--yes", "--no-install-recommends", package]):
        subprocess.run([*root, "apt-get", *arguments], check=False, capture_output=True)
