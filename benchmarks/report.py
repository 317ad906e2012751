"""The table of what was measured, for programs and for people."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

TEMPLATE = Path(__file__).resolve().parents[1]
FOLDER = TEMPLATE / "build/reports"
# What the README shows; kept by hand, after a quiet run.
RESULTS = TEMPLATE / "benchmarks/results.json"
README = TEMPLATE / "README.md"
# Rows for the plots of the docs.
ELSEWHERE = ("rule ", "simulated: ")
BEGIN, END = "<!-- table of benchmarks/results.json -->\n", "<!-- end of the table -->"


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


def keep(rows: list[Row], *, results: Path = RESULTS, readme: Path = README) -> None:
    """Have the README show these rows, in place of those of the same names."""
    new = {row.name: row for row in rows}
    before = {row.name: row for row in kept(results)} if results.exists() else {}
    rows = list((before | new).values())
    data = [asdict(row) for row in rows]
    results.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    readme.write_text(with_table(readme.read_text(encoding="utf-8"), rows), encoding="utf-8")


def kept(results: Path = RESULTS) -> list[Row]:
    """Return the rows that the README is to show."""
    return [Row(**each) for each in json.loads(results.read_text(encoding="utf-8"))]


def with_table(text: str, rows: list[Row]) -> str:
    """Return a page with the table between its two marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    shown = [row for row in rows if not row.name.startswith(ELSEWHERE)]
    return f"{before}{BEGIN}{table(shown)}{END}{after}"
