"""The table of what was measured, for programs and for people."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

TEMPLATE = Path(__file__).resolve().parents[1]
FOLDER = TEMPLATE / "build/reports"
# What the pages show; kept by hand, after a quiet run.
RESULTS = TEMPLATE / "benchmarks/results.json"
# How names of rows begin that are plotted only, and of those that have a table of their own.
RULE, SIMULATED, CONDITION = "rule ", "simulated: ", "condition: "
END = "<!-- end of the table -->"


@dataclass(frozen=True)
class Shown:
    """Which rows a table of a page shows, by how their names begin."""

    table: str
    first: tuple[str, ...] = ("",)
    but: tuple[str, ...] = ()

    @property
    def begin(self) -> str:
        """The line above the table."""
        return f"<!-- {self.table}, from benchmarks/results.json -->\n"


SHORT = (
    "where",
    "small JSON object: the service",
    "20 games: the service",
    "small JSON object, others: a service of fastapi_template",
    "start to the first answer",
    "a killed worker",
    "memory of one",
    "overload 2 x, a mix",
)
WORKER = (
    "where",
    "start to the first answer",
    "a killed worker",
    "memory of one",
    "condition: a worker and its master",
)
PAGES = {
    TEMPLATE / "README.md": (Shown("in short", first=SHORT),),
    TEMPLATE / "docs/measurements.md": (
        Shown("all of it", but=(RULE, SIMULATED, CONDITION)),
        Shown("other conditions", first=(CONDITION,)),
    ),
    TEMPLATE / "docs/guide/workers.md": (Shown("a worker", first=WORKER),),
}


@dataclass(frozen=True)
class Row:
    """One thing that was measured; `ok` is null where there is no goal."""

    name: str
    goal: str
    measured: float | str | None
    unit: str
    ok: bool | None
    reason: str = ""
    counts: dict[str, Any] = field(default_factory=dict)


def write(name: str, rows: list[Row], *, folder: Path = FOLDER) -> Path:
    """Write NAME.json and NAME.md, and return the page."""
    folder.mkdir(parents=True, exist_ok=True)
    data = [asdict(row) for row in rows]
    (folder / f"{name}.json").write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    page = folder / f"{name}.md"
    page.write_text(table(rows), encoding="utf-8")
    return page


def table(rows: list[Row]) -> str:
    """Return the rows as a table of Markdown."""
    lines = ["| what | goal | measured | spread | reached |", "| --- | --- | --- | --- | --- |"]
    marks = {True: "yes", False: "no", None: ""}
    for row in rows:
        measured = "" if row.measured is None else f"{row.measured} {row.unit}".strip()
        shares = row.counts.get("shares", [])
        spread = f"{min(shares)} to {max(shares)}" if shares else ""
        lines.append(f"| {row.name} | {row.goal} | {measured} | {spread} | {marks[row.ok]} |")
    return "\n".join(lines) + "\n"


def keep(
    rows: list[Row],
    *,
    results: Path = RESULTS,
    pages: Mapping[Path, tuple[Shown, ...]] = PAGES,
) -> None:
    """Have the pages show these rows, in place of those of the same names."""
    new = {row.name: row for row in rows}
    before = {row.name: row for row in kept(results)} if results.exists() else {}
    rows = list((before | new).values())
    data = [asdict(row) for row in rows]
    results.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    for page, shown in pages.items():
        text = with_tables(page.read_text(encoding="utf-8"), rows, shown)
        page.write_text(text, encoding="utf-8")


def kept(results: Path = RESULTS) -> list[Row]:
    """Return the rows that the pages are to show."""
    return [Row(**each) for each in json.loads(results.read_text(encoding="utf-8"))]


def with_tables(text: str, rows: list[Row], shown: tuple[Shown, ...]) -> str:
    """Return a page with each of its tables between two marks."""
    for each in shown:
        before, begin, rest = text.partition(each.begin)
        _, _, after = rest.partition(END)
        own = [
            row
            for row in rows
            if row.name.startswith(each.first) and not row.name.startswith(each.but)
        ]
        text = f"{before}{begin}{table(own)}{END}{after}"
    return text
