"""The library passes its tests once; each combination passes the checks that it brings along."""

import sys
from concurrent.futures import Future
from pathlib import Path

import pytest

from tests import baking
from tests.combinations import COMBINATIONS

# Runs `-m MODULE ARGUMENTS` as a Python of another version would.
OLD_PYTHON = f"""#!{sys.executable}
import runpy, sys
sys.version_info, sys.argv, sys.path[0] = (3, 10, 4), sys.argv[2:], ""
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("checks", COMBINATIONS)
def test_a_combination_passes_its_checks(checks: str, checking: dict[str, Future[None]]) -> None:
    checking[checks].result()


def test_an_old_python_is_refused_with_one_sentence(source: Path, tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text(OLD_PYTHON)
    old.chmod(0o755)
    service = baking.bake(source, tmp_path / "out")
    with pytest.raises(AssertionError, match=r"error: Python 3\.11 or newer is needed"):
        baking.make("setup", f"PYTHON={old}", cwd=service, venv=".venv")
    assert not (service / ".venv").exists()
