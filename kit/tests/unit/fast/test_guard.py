"""A digest says whether code is the code that was looked at."""

import gc
import hashlib
import inspect
import sys
import types
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slipway_kit.fast import (
    fastapi_memo,
    guard,
    light_span,
    metric_cells,
    middleware_stack,
    span_bytes,
)
from slipway_kit.fast.guard import FastPath

SOURCE = """
def outer(number):
    def inner(text=(
        "of two lines"
    )):
        return text
    return inner(
        number
    )


class Holder:
    @property
    def one(self):
        # Why.
        return 1

    def two(self):
        return 2
"""


def made(tmp_path: Path, source: str) -> Any:
    guard._module.cache_clear()
    file = tmp_path / "made.py"
    file.write_text(source, encoding="utf-8")
    module: Any = types.ModuleType("made")
    exec(compile(source, str(file), "exec"), vars(module))
    return module


def parts(module: Any) -> list[Callable[..., Any]]:
    return [module.outer, module.Holder.one.fget, module.Holder.two]


def test_the_digest_is_of_the_source_as_inspect_finds_it(tmp_path: Path) -> None:
    found = parts(made(tmp_path, SOURCE))
    texts = [inspect.getsource(each).rstrip("\n") for each in found]
    assert texts[0].endswith("        number\n    )")
    expected = hashlib.sha256("".join(texts).encode()).hexdigest()
    assert guard.digest(found) == expected[:16]


@pytest.mark.parametrize(
    ("old", "new"),
    [('"of two lines"', '"of 2 lines"'), ("        number\n", "        -number\n"), ("n 2", "n 3")],
)
def test_whatever_changes_within_a_function_changes_the_digest(
    tmp_path: Path, old: str, new: str
) -> None:
    before = guard.digest(parts(made(tmp_path, SOURCE)))
    assert guard.digest(parts(made(tmp_path, SOURCE.replace(old, new)))) != before


def test_what_changes_around_it_does_not(tmp_path: Path) -> None:
    before = guard.digest(parts(made(tmp_path, SOURCE)))
    assert guard.digest(parts(made(tmp_path, "import os\n\n" + SOURCE))) == before


def test_a_function_without_source_is_not_known(tmp_path: Path) -> None:
    module = made(tmp_path, SOURCE)
    path = FastPath(lambda: parts(module), guard.digest(parts(module)))
    assert path.supported()
    guard._module.cache_clear()
    (tmp_path / "made.py").unlink()
    assert not path.supported()


def test_what_is_gone_or_no_function_is_not_known() -> None:
    assert not FastPath(lambda: [sys.nothing], "0").supported()  # type: ignore[attr-defined]
    assert not FastPath(lambda: [len], "0").supported()


def test_what_is_replaced_is_restored_whatever_holds_it() -> None:
    class Holder:
        def name(self) -> str:
            return "own"

    path, holder, module = FastPath(), Holder(), types.ModuleType("held")
    vars(module)["name"] = own = "a module's"
    for owner in (holder, module):
        for replacement in (lambda: "first", lambda: "second"):
            path.replace(owner, "name", replacement)
            assert owner.name is replacement
    assert Holder().name() == "own"
    path.disable()
    assert (holder.name(), module.name) == ("own", own)
    path.disable()


def test_what_is_gone_is_not_kept_for_being_restored() -> None:
    class Holder:
        name = 0

    path, holder = FastPath(), Holder()
    gone = weakref.ref(holder)
    path.replace(holder, "name", 1)
    del holder
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize(
    "module", [fastapi_memo, light_span, metric_cells, middleware_stack, span_bytes]
)
def test_the_private_parts_of_the_locked_libraries_are_known(module: Any) -> None:
    found = guard.digest(module._parts())
    assert found in module._path.known, "read what changed, then add the digest"
