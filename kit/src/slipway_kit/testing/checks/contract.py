"""Pages that list promises, each beside the test that holds the service to it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROW = re.compile(r"\| (?P<promise>.+?) \| (?P<test>.*?) \|")
TEST = re.compile(r"`(?P<file>[\w/]+\.py)::(?P<name>test_\w+)`")


def promises(page: Path, root: Path) -> list[str]:
    """Return the promises of `page` whose test does not exist below the folder `root`."""
    return [
        f"{page.name} has no test for: {promise}"
        for promise, test in rows(page.read_text(encoding="utf-8"))
        if not _exists(root, test)
    ]


def rows(text: str) -> Iterator[tuple[str, str]]:
    """Yield each promise of a page with what stands beside it."""
    for line in text.splitlines():
        row = ROW.fullmatch(line.strip())
        if row and row["promise"] != "promise":
            yield row["promise"], row["test"]


def _exists(root: Path, test: str) -> bool:
    named = TEST.fullmatch(test)
    if not named or not (root / named["file"]).is_file():
        return False
    tree = ast.parse((root / named["file"]).read_text(encoding="utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return named["name"] in {node.name for node in tree.body if isinstance(node, functions)}
