"""The checks of the library, the unrendered tree, each combination, and what is made of one.

They take longest, and run while all other tests do.
"""

import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests import baking, features, machine

CHECKS = ("lint", "types", "test")
# The same tests, which must run most of the owner's code.
MEASURED = ("lint", "types", "coverage")


@dataclass(frozen=True)
class Ground:
    """What the checks are run on: a clean copy, its bakes, and folders to write to."""

    source: Path
    used: dict[tuple[str, str], Path]
    folder: Path


def github_with_the_shop(ground: Ground) -> None:
    """Check it where it lies."""
    service = ground.used["shop", "github"]
    baking.make("setup", *MEASURED, cwd=service, minutes=9)


def github_without_example(ground: Ground) -> None:
    """Check it where it lies."""
    service = ground.used["none", "github"]
    baking.make("setup", *MEASURED, cwd=service, minutes=9)


def gitlab_with_the_shop_which_sets_itself_up_on_python_313(ground: Ground) -> None:
    """Let it install everything, once."""
    python = machine.find_python("3.13")
    service = baking.bake(ground.source, ground.folder / "3.13", ci="gitlab")
    output = baking.make("setup", f"PYTHON={python}", cwd=service, venv=".venv", minutes=9)
    assert "Installing into .venv" in output
    assert "Installing" not in baking.make("setup", cwd=service, venv=".venv")
    assert "3.13" in baking.run(service / ".venv/bin/python", "-V", cwd=service)
    baking.make(*CHECKS, cwd=service, venv=".venv", minutes=9)


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
    baking.make("lint", "types", cwd=baking.TEMPLATE, minutes=9)
    service = baking.TEMPLATE / baking.SERVICE
    baking.make("test", cwd=service, minutes=9)


def the_library(_: Ground) -> None:
    """Run its tests against the unrendered tree; measured, twice as long, in a quarter of CI."""
    quarter = os.environ.get("QUARTER", "") if baking.IN_CI else "1"
    baking.make("test-kit", f"QUARTER={quarter}", cwd=baking.TEMPLATE, minutes=9)


def a_new_feature(ground: Ground) -> None:
    """Write one and take it back."""
    folder = ground.folder / "feature"
    features.a_new_feature_passes_every_check_and_goes_without_a_trace(ground.source, folder)


def no_example_any_more(ground: Ground) -> None:
    """Take the example back when there is a feature."""
    folder = ground.folder / "example"
    features.the_example_goes_though_a_feature_came_after_it(ground.source, folder)


COMBINATIONS: dict[str, Callable[[Ground], None]] = {
    # The longest first.
    each.__name__: each
    for each in (
        the_library,
        gitlab_with_the_shop_which_sets_itself_up_on_python_313,
        the_unrendered_tree,
        github_with_the_shop,
        github_without_example,
        no_example_any_more,
        a_new_feature,
        gitlab_without_example_as_a_user_who_is_not_root,
    )
}


@contextmanager
def checking(ground: Ground, names: Iterable[str]) -> Iterator[dict[str, Future[None]]]:
    """Run these checks meanwhile, as many at once as there are CPUs."""
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        chosen = set(names)
        yield {
            name: threads.submit(check, ground)
            for name, check in COMBINATIONS.items()
            if name in chosen
        }
        threads.shutdown(wait=True, cancel_futures=True)
