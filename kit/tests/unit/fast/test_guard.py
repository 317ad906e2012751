"""A digest says whether code is the code that was looked at."""

import hashlib
import inspect
import sys
import types
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
    known = frozenset({guard.digest(parts(module))})
    assert guard.is_known(lambda: parts(module), known)
    guard._module.cache_clear()
    (tmp_path / "made.py").unlink()
    assert not guard.is_known(lambda: parts(module), known)


def test_what_is_gone_or_no_function_is_not_known() -> None:
    known = frozenset({"0"})
    assert not guard.is_known(lambda: [sys.nothing], known)  # type: ignore[attr-defined]
    assert not guard.is_known(lambda: [len], known)


@pytest.mark.parametrize(
    "module", [fastapi_memo, light_span, metric_cells, middleware_stack, span_bytes]
)
def test_the_private_parts_of_the_locked_libraries_are_known(module: Any) -> None:
    fastapi_memo.disable()
    found = guard.digest(module._parts())
    assert found in module._KNOWN, "read what changed, then add the digest to _KNOWN"
