"""Programs that no wheel brings: found where Debian puts them, installed in CI, else a skip."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def find(program: str, *, package: str) -> Path:
    """Return the path of `program`; skip the test without it, or fail it where CI=true."""
    found = _which(program)
    if found is None and os.environ.get("CI") == "true":
        _install(package)
        found = _which(program) or pytest.fail(f"CI needs {program}: install {package}")
    if found is None:
        pytest.skip(f"{program} is not installed (Debian package {package})")
    return Path(found)


def _which(program: str) -> str | None:
    versions = sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)
    return shutil.which(program, path=os.pathsep.join([os.environ["PATH"], "/usr/sbin", *versions]))


def _install(package: str) -> None:
    root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if shutil.which("apt-get") is None or (root and shutil.which(root[0]) is None):
        return
    for arguments in (["update"], ["install", "--yes", "--no-install-recommends", package]):
        subprocess.run([*root, "apt-get", *arguments], check=False, capture_output=True)
