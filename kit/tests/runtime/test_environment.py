"""Real environments, made from packages of this test alone; no index is asked."""

import hashlib
import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from slipway_kit.dev import environment

# To make an environment takes some seconds, on a busy machine a minute.
pytestmark = pytest.mark.timeout(900)
SCRIPT = Path(environment.__file__)
REAL_UV = Path(sys.executable).with_name("uv")


@dataclass
class Ground:
    """A project with a requirements file, and the folder that its packages come from."""

    folder: Path

    @property
    def venv(self) -> Path:
        return self.folder / "my venv"

    def wheel(self, name: str, *, script: str = "") -> str:
        """Make a package and return the line that pins it."""
        path = self.folder / "packages" / f"{name}-1-py3-none-any.whl"
        path.parent.mkdir(exist_ok=True)
        with zipfile.ZipFile(path, "w") as archive:
            about = f"{name}-1.dist-info"
            archive.writestr(
                f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n"
            )
            archive.writestr(
                f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            )
            archive.writestr(f"{about}/RECORD", "")
            archive.writestr(f"{name}_package.py", "")
            if script:
                program = zipfile.ZipInfo(f"{name}-1.data/scripts/{name}")
                program.external_attr = 0o100755 * 2**16
                archive.writestr(program, script)
        return f"{name}==1 --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"

    def uv(self) -> str:
        return self.wheel("uv", script=f'#!/bin/sh\nexec "{REAL_UV}" "$@"\n')

    def lock(self, *lines: str, name: str = "requirements-dev.txt") -> None:
        (self.folder / name).write_text("".join(f"{line}\n" for line in lines))

    def set_up(self, *arguments: str, status: int = 0) -> str:
        """Run what `make setup` runs and return all that it said."""
        done = subprocess.run(
            [sys.executable, str(SCRIPT), str(self.venv), *(arguments or ["requirements-dev.txt"])],
            cwd=self.folder,
            env=os.environ
            | {
                "PIP_NO_INDEX": "1",
                "PIP_FIND_LINKS": str(self.folder / "packages"),
                "UV_CACHE_DIR": str(self.folder / "cache"),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stdout
        return done.stdout

    def pip(self, *arguments: str) -> None:
        command = [str(self.venv / "bin/python"), "-m", "pip", "install", "--quiet", "--no-index"]
        packages = str(self.folder / "packages")
        subprocess.run([*command, "--find-links", packages, *arguments], check=True)

    def held(self) -> set[str]:
        """Return the packages of this test that are in the environment."""
        [packages] = self.venv.glob("lib/python*/site-packages")
        return {path.name.removesuffix("_package.py") for path in packages.glob("*_package.py")}


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


def test_an_environment_made_here_holds_what_is_pinned_and_nothing_else(ground: Ground) -> None:
    ground.wheel("stray")
    ground.lock(ground.uv(), ground.wheel("one"))
    said = ground.set_up()
    assert ground.held() == {"uv", "one"}
    assert len(said.splitlines()) < 10
    assert "one==1" not in said
    assert ground.set_up() == ""
    ground.pip("stray")
    ground.lock(ground.uv(), ground.wheel("two"))
    ground.set_up()
    assert ground.held() == {"uv", "two"}


def test_from_an_environment_of_somebody_else_nothing_is_uninstalled(ground: Ground) -> None:
    subprocess.run([sys.executable, "-m", "venv", ground.venv], check=True)
    ground.wheel("stray")
    ground.pip("stray")
    ground.lock(ground.uv(), ground.wheel("one"))
    ground.set_up()
    assert ground.held() == {"uv", "one", "stray"}


def test_what_fails_counts_as_not_installed_whatever_was_there_before(ground: Ground) -> None:
    good = [ground.uv(), ground.wheel("one")]
    ground.lock(*good)
    ground.set_up()
    ground.wheel("two")
    ground.lock(*good, f"two==1 --hash=sha256:{'0' * 64}")
    said = ground.set_up(status=1)
    assert said.splitlines()[-1].startswith("error: pip could not install what is pinned")
    ground.lock(*good)
    assert "ready" in ground.set_up()
    assert ground.held() == {"uv", "one"}


def test_what_an_interrupted_run_left_is_made_anew(ground: Ground) -> None:
    ground.lock(ground.uv(), ground.wheel("one"))
    (ground.venv / "lib").mkdir(parents=True)
    (ground.venv / environment.OWNER).write_text(f"{ground.folder.resolve()}\n")
    (ground.venv / "pyvenv.cfg").write_text("half of")
    ground.set_up()
    assert ground.held() == {"uv", "one"}


def test_where_uv_is_not_to_be_had_pip_installs(ground: Ground) -> None:
    ground.lock(ground.wheel("one"))
    said = ground.set_up()
    assert "requirements-dev.txt does not pin uv" in said
    assert "pip installs instead" in said
    assert ground.held() == {"one"}


def test_a_part_of_the_templates_file_is_installed_with_its_hashes(ground: Ground) -> None:
    one, two = ground.wheel("one"), ground.wheel("two")
    ground.lock(one, name="requirements.txt")
    ground.lock(ground.uv(), one, two, ground.wheel("three"))
    part = ("requirements.txt", "--template", "requirements-dev.txt", "--only", "two")
    ground.set_up(*part)
    assert ground.held() == {"uv", "one", "two"}
    assert ground.set_up(*part) == ""
