"""Draw the library's floors, and who imports whom, out of its source: `make map` writes it.

The floors are the layers that import-linter holds (kit/pyproject.toml); the arrows are the imports
that grimp finds. Of all arrows those are drawn that do not follow from others, so that the picture
can be read; the table below it has them all.
"""

import ast
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

import grimp

TEMPLATE = Path(__file__).resolve().parents[1]
KIT = TEMPLATE / "kit"
PAGE = KIT / "docs" / "map.md"
LIBRARY = "slipway_kit"
BEGIN, END = "<!-- drawn by make map -->\n", "<!-- end of the drawing -->\n"


def floors() -> list[list[str]]:
    """Return the parts of each floor, the highest first."""
    project = tomllib.loads((KIT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = project["tool"]["importlinter"]["contracts"]
    [layers] = [each["layers"] for each in contracts if each["id"] == "floors"]
    return [
        [
            part.strip(" ()").removeprefix(f"{LIBRARY}.")
            for part in layer.replace(":", "|").split("|")
        ]
        for layer in layers
    ]


def imports() -> dict[str, set[str]]:
    """Return which other parts each part of the library imports; a part is a folder or a module."""
    sys.path.insert(0, str(KIT / "src"))
    graph = grimp.build_graph(LIBRARY, cache_dir=None)
    found: dict[str, set[str]] = {}
    for module in graph.modules - {LIBRARY}:
        part = part_of(module)
        others = {part_of(each) for each in graph.find_modules_directly_imported_by(module)}
        found.setdefault(part, set()).update(others - {part, LIBRARY})
    return found


def part_of(module: str) -> str:
    """Return the part of the library that a module belongs to."""
    return module.split(".")[1] if "." in module else module


def needed(arrows: dict[str, set[str]]) -> dict[str, set[str]]:
    """Return the arrows that do not follow from two or more others."""

    def reached(parts: Iterable[str]) -> set[str]:
        found: set[str] = set()
        waiting = list(parts)
        while waiting:
            found.add(part := waiting.pop())
            waiting += arrows.get(part, set()) - found
        return found

    return {
        part: {
            other
            for other in others
            if not any(other in reached(arrows.get(each, set())) for each in others - {other})
        }
        for part, others in arrows.items()
    }


def about(part: str) -> str:
    """Return the first line of a part's docstring."""
    path = KIT / "src" / LIBRARY / part
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0]


def drawing() -> str:
    """Return the picture and the table of all parts."""
    found = imports()
    on_floors = floors()
    known = {part for floor in on_floors for part in floor}
    arrows = {part: others & known for part, others in found.items() if part in known}
    lines = ["```mermaid", "flowchart TB"]
    for number, floor in numbered(on_floors):
        lines += [f"  subgraph floor{number} [floor {number}]"]
        lines += [f"    {part}" for part in floor]
        lines += ["  end"]
    for part, others in sorted(needed(arrows).items()):
        lines += [f"  {part} --> {other}" for other in sorted(others)]
    lines += ["```", "", "| floor | part | what it is | imports |", "|---|---|---|---|"]
    for number, floor in numbered(on_floors):
        lines += [f"| {number} | {row(part, found)} |" for part in floor]
    return "\n".join([*lines, ""])


def numbered(on_floors: list[list[str]]) -> Iterator[tuple[int, list[str]]]:
    """Yield each floor with its number, the highest first and the ground as 0."""
    yield from ((len(on_floors) - 1 - place, floor) for place, floor in enumerate(on_floors))


def row(part: str, found: dict[str, set[str]]) -> str:
    """Return the cells of a part in the table."""
    others = ", ".join(f"`{other}`" for other in sorted(found.get(part, set())))
    return f"`{part}` | {about(part)} | {others}"


def page(text: str) -> str:
    """Return the page with the drawing as it is now."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{drawing()}{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
