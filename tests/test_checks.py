"""The library passes its tests once; each combination passes the checks that it brings along."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import baking, machine

CHECKS = ("lint", "types", "test")
# The same tests, which must run most of the owner's code.
MEASURED = ("lint", "types", "coverage")

# Runs `-m MODULE ARGUMENTS` as a Python of another version would.
OLD_PYTHON = f"""#!{sys.executable}
import runpy, sys
sys.version_info, sys.argv, sys.path[0] = (3, 10, 4), sys.argv[2:], ""
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


@dataclass(frozen=True)
class Ground:
    """What the checks are run on: a clean copy, its bakes, and folders to write to."""

    source: Path
    used: dict[tuple[str, str], Path]
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """An environment in which mypy reads every library once for all combinations."""
        return baking.environment(MYPY_CACHE_DIR=str(self.folder / "mypy"))


def github_with_the_shop(ground: Ground) -> None:
    """Check it where it lies."""
    service = ground.used["shop", "github"]
    baking.make("setup", *MEASURED, cwd=service, env=ground.environment, minutes=9)


def github_without_example(ground: Ground) -> None:
    """Check it where it lies."""
    service = ground.used["none", "github"]
    baking.make("setup", *MEASURED, cwd=service, env=ground.environment, minutes=9)


def gitlab_with_the_shop_which_sets_itself_up_on_python_313(ground: Ground) -> None:
    """Let it install everything, once."""
    python = machine.find_python("3.13")
    service = baking.bake(ground.source, ground.folder / "3.13", ci="gitlab")
    output = baking.make("setup", f"PYTHON={python}", cwd=service, venv=".venv", minutes=9)
    assert "Installing into .venv" in output
    assert "Installing" not in baking.make("setup", cwd=service, venv=".venv")
    assert "3.13" in baking.run(service / ".venv/bin/python", "-V", cwd=service)
    baking.make(*CHECKS, cwd=service, venv=".venv", env=ground.environment, minutes=9)


def gitlab_without_example_as_a_user_who_is_not_root(ground: Ground) -> None:
    """Check it in a home folder of theirs."""
    with machine.stranger() as user:
        service = baking.bake(ground.source, user.home, ci="gitlab", example="none")
        venv = machine.borrowed_venv(user.home / "venv", sys.prefix)
        shutil.copy(service / "requirements-dev.txt", venv / "installed-requirements.txt")
        user.own_everything()
        user.run("make", f"VENV={venv}", *CHECKS, cwd=service)


def the_unrendered_tree(ground: Ground) -> None:
    """Check what is the template's own source."""
    baking.make("lint", "types", cwd=baking.TEMPLATE, env=ground.environment, minutes=9)
    service = baking.TEMPLATE / baking.SERVICE
    baking.make("test", cwd=service, env=ground.environment, minutes=9)


def the_library(ground: Ground) -> None:
    """Run its tests against the unrendered tree."""
    baking.make("test-kit", cwd=baking.TEMPLATE, env=ground.environment, minutes=9)


COMBINATIONS: dict[str, Callable[[Ground], None]] = {
    # The longest first.
    each.__name__: each
    for each in (
        the_library,
        gitlab_with_the_shop_which_sets_itself_up_on_python_313,
        the_unrendered_tree,
        gitlab_without_example_as_a_user_who_is_not_root,
        github_without_example,
        github_with_the_shop,
    )
}


@pytest.fixture(scope="module")
def checking(
    request: pytest.FixtureRequest,
    source: Path,
    used: dict[tuple[str, str], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, Future[None]]]:
    """The checks of all combinations that are asked for, as many at once as there are CPUs."""
    ground = Ground(source, used, tmp_path_factory.mktemp("checks"))
    asked = {
        item.callspec.params.get("combination")
        for item in request.session.items
        if isinstance(item, pytest.Function) and hasattr(item, "callspec")
    }
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        yield {
            name: threads.submit(check, ground)
            for name, check in COMBINATIONS.items()
            if name in asked
        }


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("combination", COMBINATIONS)
def test_a_combination_passes_its_checks(
    combination: str, checking: dict[str, Future[None]]
) -> None:
    checking[combination].result()


def test_an_old_python_is_refused_with_one_sentence(source: Path, tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text(OLD_PYTHON)
    old.chmod(0o755)
    service = baking.bake(source, tmp_path / "out")
    with pytest.raises(AssertionError, match=r"error: Python 3\.11 or newer is needed"):
        baking.make("setup", f"PYTHON={old}", cwd=service, venv=".venv")
    assert not (service / ".venv").exists()
