"""`python -m slipway_kit verify` names what is not as it was released."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from slipway_kit import __version__
from slipway_kit.dev import verify

PACKAGE = verify.PACKAGE


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the library with sums that fit it."""
    package = tmp_path / "slipway_kit"
    shutil.copytree(PACKAGE, package)
    (package / verify.MANIFEST).write_text(verify.render(verify.sums(package)))
    return package


def run(package: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the copy where nothing but the standard library can be imported."""
    return subprocess.run(
        [sys.executable, "-S", "-m", "slipway_kit", *arguments],
        cwd=package.parent,
        env={},
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_unedited_copy_is_told_with_its_version(copy: Path) -> None:
    done = run(copy, "verify")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"slipway-kit {__version__} is unedited\n"


def test_an_edited_a_missing_and_an_added_file_are_named_in_one_sentence_each(copy: Path) -> None:
    with (copy / "clock.txt").open("w") as added:
        added.write("12\n")
    with (copy / "errors.py").open("a") as edited:
        edited.write("# mine\n")
    (copy / "system.py").unlink()
    done = run(copy, "verify")
    assert (done.returncode, done.stdout) == (1, "")
    missing, edit, more = done.stderr.splitlines()
    assert missing == "error: slipway_kit/system.py is missing: copy the whole folder again."
    assert edit.startswith("error: slipway_kit/errors.py was edited: restore it;")
    assert more.startswith("error: slipway_kit/clock.txt does not belong there:")


def test_a_folder_that_was_copied_in_part_is_named_once_for_each_folder_that_lacks(
    copy: Path,
) -> None:
    for name in ("db", "testing", "__init__.py"):
        path = copy / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    done = run(copy, "verify")
    assert done.returncode == 1
    assert [line.split()[1] for line in done.stderr.splitlines()] == [
        "slipway_kit/__init__.py",
        "slipway_kit/db/",
        "slipway_kit/testing/",
    ]


def test_a_copy_without_development_tools_says_so(copy: Path) -> None:
    shutil.rmtree(copy / "dev")
    done = run(copy, "verify")
    assert done.returncode == 1
    assert done.stderr.startswith("error: slipway_kit/dev/ is missing: ")


def test_a_copy_without_its_sums_says_so(copy: Path) -> None:
    (copy / verify.MANIFEST).unlink()
    assert verify.problems(copy) == [
        "slipway_kit/MANIFEST is missing: copy the whole folder again."
    ]


def test_bytecode_and_hidden_files_are_nobodys_edit(copy: Path) -> None:
    for name in ("__pycache__/verify.cpython-311.pyc", ".DS_Store", "db/.mypy_cache/a.json"):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text("x")
    assert verify.problems(copy) == []


def test_the_sums_are_those_that_sha256sum_makes(copy: Path) -> None:
    program = shutil.which("sha256sum")
    assert program
    done = subprocess.run(
        [program, "--check", "--strict", "--quiet", verify.MANIFEST],
        cwd=copy,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")
