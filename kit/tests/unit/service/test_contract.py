"""Every promise of docs/contract*.md has the test that it names."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from kit.tests.faults.test_faults import FAULTS
from kit.tests.support.paths import SERVICE

ROW = re.compile(r"\| (?P<promise>.+?) \| (?P<test>.*?) \|")
TEST = re.compile(r"`(?P<file>tests/[\w/]+\.py)::(?P<name>test_\w+)`")


def promises(text: str) -> Iterator[tuple[str, str]]:
    """Yield each promise with what stands beside it."""
    for line in text.splitlines():
        row = ROW.fullmatch(line.strip())
        if row and row["promise"] not in {"promise", "---"} and not line.startswith("|---"):
            yield row["promise"], row["test"]


def missing(root: Path) -> list[str]:
    """List the promises below `root` that no test holds."""
    return [
        promise
        for page in sorted(root.glob("docs/contract*.md"))
        for promise, test in promises(page.read_text(encoding="utf-8"))
        if not exists(root, test)
    ]


def exists(root: Path, test: str) -> bool:
    named = TEST.fullmatch(test)
    if not named or not (root / named["file"]).exists():
        return False
    tree = ast.parse((root / named["file"]).read_text(encoding="utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return named["name"] in {node.name for node in tree.body if isinstance(node, functions)}


def test_every_promise_has_its_test() -> None:
    assert missing(SERVICE) == []
    assert len(list(promises((SERVICE / "docs/contract.md").read_text(encoding="utf-8")))) > 80


@pytest.mark.parametrize(
    "test",
    ["", "`tests/unit/test_x.py::test_gone`", "`tests/unit/gone.py::test_x`", "by hand"],
)
def test_a_promise_without_a_test_is_found(tmp_path: Path, test: str) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "tests/unit").mkdir(parents=True)
    (tmp_path / "tests/unit/test_x.py").write_text("def test_x(): pass\n")
    page = "| promise | test |\n|---|---|\n| Kept. | `tests/unit/test_x.py::test_x` |\n"
    (tmp_path / "docs/contract.md").write_text(f"{page}| Broken. | {test} |\n")
    assert missing(tmp_path) == ["Broken."]


def test_the_page_says_of_every_fault_what_clients_see() -> None:
    page = (SERVICE / "docs/how-it-works.md").read_text(encoding="utf-8")
    for name, fault in FAULTS.items():
        assert f"| {name} | {fault.goal} |" in page
