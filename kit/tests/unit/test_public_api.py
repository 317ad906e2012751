"""The names that services import, and what an import of this library costs."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import slipway_kit
from kit.tests.support.paths import REPOSITORY

SOURCE = REPOSITORY / "kit/src"
PUBLIC = (
    "client",
    "concurrency",
    "config",
    "db",
    "errors",
    "fields",
    "http",
    "metrics",
    "service",
)


@pytest.fixture(params=PUBLIC)
def module(request: pytest.FixtureRequest) -> ModuleType:
    return import_module(f"slipway_kit.{request.param}")


def test_every_public_name_is_there_and_says_what_it_is(module: ModuleType) -> None:
    assert module.__all__ == sorted(set(module.__all__), key=_as_ruff_sorts)
    found = [getattr(module, name) for name in module.__all__]
    ours = [each for each in found if getattr(each, "__module__", "").startswith("slipway_kit.")]
    assert [each for each in ours if not each.__doc__] == []


def _as_ruff_sorts(name: str) -> tuple[bool, bool, str]:
    """Constants, then classes, then functions."""
    return not name.isupper(), not name[0].isupper(), name


def test_types_are_told_to_those_who_import_it() -> None:
    assert (Path(slipway_kit.__file__).parent / "py.typed").exists()


def test_a_process_that_computes_imports_nothing_but_the_standard_library() -> None:
    program = (
        "import sys; before = set(sys.modules); import slipway_kit.pool_child;"
        " print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(done.stdout.split()) - sys.stdlib_module_names == {"slipway_kit"}
