"""A service whose copy of the library is deleted runs on the wheel, with no import changed."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import baking
from tests.library import build


def environment_with(wheel: Path, folder: Path) -> Path:
    """Return the Python of a new environment with the wheel and everything of this one."""
    baking.run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    python = folder / "bin/python"
    purelib = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(baking.run(python, "-c", purelib, cwd=folder.parent).strip())
    # After the environment's own packages, so that the wheel is what is found first.
    ours = [path for path in sys.path if path.endswith("site-packages")]
    (site / "everything.pth").write_text("\n".join(ours), encoding="utf-8")
    (folder / "bin/helm").symlink_to(baking.VENV / "bin/helm")
    install = ("uv", "pip", "install", "--quiet", "--offline", "--no-deps", "--python", python)
    baking.run(sys.executable, "-m", *install, wheel, cwd=folder.parent)
    return python


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    (path,) = build(tmp_path_factory.mktemp("kit")).glob("*.whl")
    return path


def test_the_service_passes_its_tests_and_really_starts_with_the_wheel_in_place_of_the_folder(
    wheel: Path, baked: dict[tuple[str, str], Path], tmp_path: Path
) -> None:
    service = tmp_path / "board-games"
    shutil.copytree(baked["shop", "github"], service)
    shutil.rmtree(service / "slipway_kit")
    python = environment_with(wheel, tmp_path / "environment")
    where = "import slipway_kit; print(slipway_kit.__file__)"
    assert baking.run(python, "-c", where, cwd=service).startswith(str(tmp_path / "environment"))
    said = baking.run(python, "-m", "slipway_kit", "verify", cwd=service)
    assert said.endswith("is unedited\n")
    said = baking.run(python, "-m", "pytest", "--quiet", "--no-header", "-rA", cwd=service)
    # One of them starts the service, asks it something and has it end.
    assert "PASSED tests/test_service.py::test_it_starts_answers_and_leaves_in_order" in said
    assert "SKIPPED" not in said


@pytest.mark.parametrize(
    "command", [["app", "serve"], ["app", "migrate"], ["gunicorn", "--config", "gunicorn.conf.py"]]
)
def test_a_service_does_not_start_with_another_version_installed_beside_its_folder(
    command: list[str], other: Path, baked: dict[tuple[str, str], Path]
) -> None:
    done = subprocess.run(
        [other, "-m", *command],
        cwd=baked["shop", "github"],
        env=baking.environment(
            DATABASE_URL="postgresql://nobody@127.0.0.1:1/none", PYTHONDONTWRITEBYTECODE="1"
        ),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode in {1, 2}
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: slipway-kit 9.9.9 is installed beside ")
    assert line.endswith("slipway_kit: uninstall it, or delete that folder.")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has the library in another version."""
    folder = tmp_path_factory.mktemp("other")
    (path,) = build(folder, version="9.9.9").glob("*.whl")
    return environment_with(path, folder / "environment")
