"""The source files that pages link to, as pages of their own, so that every link leads somewhere.

A function or a class of a Python file has its name as an anchor, a method `Class.method` too:
a page links to `worker.py#DrainingServer` and stays right when lines move.
"""

import ast
import html
import re
from collections.abc import Iterator
from pathlib import Path

from pygments import highlight  # type: ignore[import-untyped]
from pygments.formatters import HtmlFormatter  # type: ignore[import-untyped]
from pygments.lexers import TextLexer, get_lexer_for_filename  # type: ignore[import-untyped]
from pygments.util import ClassNotFound  # type: ignore[import-untyped]

NAMED = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def anchors(text: str) -> dict[int, list[str]]:
    """Return the anchors of each line of a Python file, by its number."""
    found: dict[int, list[str]] = {}
    seen: set[str] = set()
    for name, node in _named(ast.parse(text).body, ""):
        if name not in seen:
            seen.add(name)
            line = min([node.lineno, *(each.lineno for each in _decorators(node))])
            found.setdefault(line, []).append(name)
    return found


def _named(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, ast.stmt]]:
    for node in body:
        if isinstance(node, NAMED):
            yield prefix + node.name, node
        elif isinstance(node, ast.Assign) and not prefix:
            yield from ((ast.unparse(target), node) for target in node.targets)
        elif isinstance(node, ast.AnnAssign) and not prefix:
            yield ast.unparse(node.target), node
        if isinstance(node, ast.ClassDef):
            yield from _named(node.body, f"{prefix}{node.name}.")


def _decorators(node: ast.stmt) -> list[ast.expr]:
    return node.decorator_list if isinstance(node, NAMED) else []


def page(path: str, file: Path) -> str:
    """Return the page of a source file, which search leaves out."""
    text = file.read_text(encoding="utf-8")
    try:
        lexer = get_lexer_for_filename(path, stripnl=False)
    except ClassNotFound:
        lexer = TextLexer(stripnl=False)
    shown = highlight(text, lexer, HtmlFormatter(nowrap=True)).splitlines()
    named = anchors(text) if path.endswith(".py") else {}
    lines = [
        "".join(f'<a id="{html.escape(name)}"></a>' for name in named.get(number, ()))
        # An empty line would end the block.
        + (line or "&#8203;")
        for number, line in enumerate(shown, start=1)
    ]
    return (
        f"---\ntitle: {Path(path).name}\nsearch:\n  exclude: true\nhide:\n  - toc\n---\n\n"
        f"# `{path}`\n\n"
        f'<div class="highlight"><pre><code>{_safe(lines)}</code></pre></div>\n'
    )


def _safe(lines: list[str]) -> str:
    """Return the lines of a block; Markdown takes no part of them for its own."""
    return "\n".join(re.sub(r"`", "&#96;", line) for line in lines)
