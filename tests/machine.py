"""Other Pythons, other users and folders of this machine."""

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import baking


def find_python(version: str) -> Path:
    """Return an interpreter of `version`, from UV_PYTHON, the PATH, pyenv or uv."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    uv = Path.home() / ".local/share/uv/python"
    candidates = [
        os.environ.get("UV_PYTHON"),
        shutil.which(f"python{version}"),
        *sorted(map(str, pyenv.glob(f"versions/{version}*/bin/python"))),
        *sorted(map(str, uv.glob(f"cpython-{version}*/bin/python"))),
    ]
    for candidate in candidates:
        if candidate and answers(Path(candidate), version):
            return Path(candidate)
    baking.missing(f"Python {version}")
    raise AssertionError


def answers(python: Path, version: str) -> bool:
    """Return whether `python` runs and is of `version`."""
    if not python.is_file():
        return False
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return done.returncode == 0 and done.stdout.strip() == version


@dataclass(frozen=True)
class Stranger:
    """A user with little more than a home folder."""

    account: pwd.struct_passwd
    home: Path

    def own_everything(self) -> None:
        """Hand over what lies in the home folder."""
        for path in (self.home, *self.home.rglob("*")):
            os.chown(path, self.account.pw_uid, self.account.pw_gid, follow_symlinks=False)

    def credentials(self) -> dict[str, Any]:
        """Return what makes a child process this user's."""
        if os.geteuid():
            return {}
        return {"user": self.account.pw_uid, "group": self.account.pw_gid, "extra_groups": []}

    def run(self, *argv: object, cwd: Path) -> None:
        """Run a command as this user and fail with its output when its status is not 0."""
        done = subprocess.run(
            [str(part) for part in argv],
            cwd=cwd,
            env={"HOME": str(self.home), "PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
            **self.credentials(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=9 * baking.MINUTES,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-baking.SHOWN :]


@contextmanager
def folder_for_databases() -> Iterator[Path]:
    """Yield a folder that ends with this block; as root the databases in it belong to another."""
    folder = Path(tempfile.mkdtemp(prefix="state-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def stranger() -> Iterator[Stranger]:
    """Yield a user who is not root, with a home folder that ends with this block."""
    account = pwd.getpwuid(os.geteuid()) if os.geteuid() else pwd.getpwnam("nobody")
    home = Path(tempfile.mkdtemp(prefix="stranger-", dir="/tmp"))
    home.chmod(0o755)
    try:
        yield Stranger(account, home)
    finally:
        shutil.rmtree(home)


def borrowed_venv(folder: Path, prefix: str) -> Path:
    """Make an environment that anybody may use, with the packages of the one in `prefix`."""
    major, minor = sys.version_info[:2]
    name = f"python{major}.{minor}"
    python = readable(Path(sys._base_executable), name)  # type: ignore[attr-defined]
    subprocess.run([python, "-m", "venv", "--without-pip", folder], check=True)
    packages = folder / "lib" / name / "site-packages"
    shutil.copytree(Path(prefix) / "lib" / name / "site-packages", packages, dirs_exist_ok=True)
    for program in ("hadolint", "helm", "ruff"):
        shutil.copy(Path(prefix) / "bin" / program, folder / "bin" / program)
    script = (Path(prefix) / "bin/lint-imports").read_text().partition("\n")[2]
    (folder / "bin/lint-imports").write_text(f"#!{folder}/bin/python\n{script}")
    (folder / "bin/lint-imports").chmod(0o755)
    return folder


def readable(own: Path, name: str) -> Path:
    """Return an interpreter that everybody may run."""
    for candidate in (own.resolve(), Path("/usr/bin") / name, Path("/usr/local/bin") / name):
        folders = candidate.parents
        if candidate.exists() and all(folder.stat().st_mode & 0o001 for folder in folders):
            return candidate
    baking.missing(f"a {name} that every user may run")
    raise AssertionError
