"""Programs that no wheel brings: found where Debian puts them, installed in CI, else a skip."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

FOLDERS = ["/usr/sbin", *sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)]


def find(program: str, *, package: str) -> Path:
    """Return the path of `program`; skip the test without it, or fail it where CI=true."""
    found = _which(program)
    if found is None and os.environ.get("CI") == "true":
        root = [] if os.geteuid() == 0 else ["sudo", "-n"]
        install = [*root, "apt-get", "install", "--yes", "--no-install-recommends", package]
        if shutil.which(install[0]):
            subprocess.run(install, check=False, capture_output=True)
        found = _which(program) or pytest.fail(f"CI needs {program}: install {package}")
    if found is None:
        pytest.skip(f"{program} is not installed (Debian package {package})")
    return Path(found)


def _which(program: str) -> str | None:
    return shutil.which(program, path=os.pathsep.join([os.environ["PATH"], *FOLDERS]))
