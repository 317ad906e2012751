"""Each combination passes the checks that it brings along."""

import re
import shutil
import sys
from pathlib import Path

import pytest

from tests import baking, machine

CHECKS = ("lint", "types", "test")


@pytest.fixture(scope="session")
def mypy_cache(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which mypy reads every library once for all combinations."""
    return baking.environment(MYPY_CACHE_DIR=str(tmp_path_factory.mktemp("mypy")))


def test_github_with_the_shop_passes_its_checks(
    used: dict[tuple[str, str], Path], mypy_cache: dict[str, str]
) -> None:
    # Its tests run below, all of them and measured.
    baking.make("setup", "lint", "types", cwd=used["shop", "github"], env=mypy_cache, minutes=9)


def test_github_without_example_passes_its_checks(
    used: dict[tuple[str, str], Path], mypy_cache: dict[str, str]
) -> None:
    baking.make("setup", *CHECKS, cwd=used["none", "github"], env=mypy_cache, minutes=9)


def test_gitlab_with_the_shop_sets_itself_up_and_passes_its_checks_on_python_313(
    source: Path, tmp_path: Path, mypy_cache: dict[str, str]
) -> None:
    python = machine.find_python("3.13")
    service = baking.bake(source, tmp_path, ci="gitlab")
    output = baking.make("setup", f"PYTHON={python}", cwd=service, venv=".venv", minutes=9)
    assert "Installing into .venv" in output
    assert "Installing" not in baking.make("setup", cwd=service, venv=".venv")
    assert "3.13" in baking.run(service / ".venv/bin/python", "-V", cwd=service)
    baking.make(*CHECKS, cwd=service, venv=".venv", env=mypy_cache, minutes=9)


def test_gitlab_without_example_passes_its_checks_as_a_user_who_is_not_root(
    source: Path,
) -> None:
    with machine.stranger() as user:
        service = baking.bake(source, user.home, ci="gitlab", example="none")
        venv = machine.borrowed_venv(user.home / "venv", sys.prefix)
        shutil.copy(service / "requirements-dev.txt", venv / "installed-requirements.txt")
        user.own_everything()
        user.run("make", f"VENV={venv}", *CHECKS, cwd=service)


def test_the_unrendered_tree_passes_the_same_checks(mypy_cache: dict[str, str]) -> None:
    baking.make("lint", "types", cwd=baking.TEMPLATE, env=mypy_cache)
    baking.make("test", cwd=baking.TEMPLATE / baking.SERVICE, env=mypy_cache)


@pytest.mark.runtime
@pytest.mark.timeout(1560)
def test_the_default_service_passes_every_test_and_reaches_its_coverage(
    used: dict[tuple[str, str], Path],
) -> None:
    baking.make("coverage", cwd=used["shop", "github"], minutes=25)


def delete_example(service: Path) -> None:
    """Delete the example as the README tells people to."""
    readme = (service / "README.md").read_text()
    (commands,) = re.findall(r"## Without the example\n.*?```sh\n(.*?)```", readme, re.DOTALL)
    baking.run("sh", "-e", "-c", commands, cwd=service)
    enabled = service / "app/enabled.py"
    enabled.write_text(enabled.read_text().replace('    "shop",\n', ""))
    baking.run(sys.executable, "tools/settings_table.py", cwd=service)


def test_a_service_whose_example_was_deleted_by_hand_is_the_one_baked_without(
    source: Path, tmp_path: Path
) -> None:
    # The one baked without passes its checks above, so this one does.
    service = baking.bake(source, tmp_path / "by hand")
    delete_example(service)
    by_hand, without = (
        baking.files(service),
        baking.files(baking.bake(source, tmp_path / "none", example="none")),
    )
    assert "Without the example" in by_hand.pop("README.md").decode()
    assert "Without the example" not in without.pop("README.md").decode()
    assert by_hand == without


def test_an_old_python_is_refused_with_one_sentence(source: Path, tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    service = baking.bake(source, tmp_path / "out")
    with pytest.raises(AssertionError, match=r"error: Python 3\.11 or newer is needed"):
        baking.make("setup", f"PYTHON={old}", cwd=service, venv=".venv")
    assert not (service / ".venv").exists()
