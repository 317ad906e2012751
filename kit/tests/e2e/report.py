"""A table of what was measured: build/reports/e2e.json for programs, e2e.md for people.

Both are written after every row, so that a run that breaks off keeps what it had.
"""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest

from kit.tests.support.paths import REPOSITORY

FOLDER = REPOSITORY / "build/reports"
IN_CI = os.environ.get("CI") == "true"
# Of a long list the page shows the first; the other form has them all.
SHOWN = 10
MARKS = {True: "yes", False: "**no**", None: "not here"}


class GoalMissedError(AssertionError):
    """What was measured is not what was promised; its row says so already."""


@dataclass(frozen=True)
class Row:
    """One thing that was to be shown; `ok` is null when the cluster cannot show it."""

    name: str
    goal: str
    measured: float | str | None
    unit: str
    ok: bool | None
    reason: str = ""
    counts: dict[str, Any] = field(default_factory=dict)

    def facts(self) -> list[tuple[str, object]]:
        """Return what there is to know, by name."""
        own = {key: value for key, value in asdict(self).items() if key != "counts"}
        return [*own.items(), *self.counts.items()]


class Report:
    """The rows of one run."""

    def __init__(self, folder: Path = FOLDER, *, name: str, in_ci: bool = IN_CI) -> None:
        self.folder, self.name, self.in_ci = folder, name, in_ci
        self.rows: list[Row] = []
        self.write()

    def row(
        self,
        name: str,
        *,
        goal: str,
        measured: float | str | None,
        ok: bool,
        unit: str = "",
        reason: str = "",
        **counts: Any,
    ) -> None:
        """Add a row, and fail the test when the goal was not reached."""
        self.add(Row(name, goal, measured, unit, ok, reason, counts))
        if not ok:
            raise GoalMissedError(f"{name}: {measured} {unit}, where the goal is {goal}")

    def lacks(self, name: str, *, goal: str, reason: str) -> None:
        """Add a row that this cluster cannot show; in a pipeline that fails."""
        self.add(Row(name, goal, None, "", None, reason))
        if self.in_ci:
            pytest.fail(f"{name}: {reason}, and CI=true wants every row shown")
        pytest.skip(f"{name}: {reason}")

    def failed(self, test: str, error: pytest.ExceptionInfo[BaseException]) -> str:
        """Return the row of a test that failed; one that measured nothing is given one."""
        if not error.errisinstance(GoalMissedError):
            goal, why = "the test runs to its end", error.exconly()
            self.add(Row(test, goal, None, "", ok=False, reason=why))
        return "\n".join(f"{key}: {shown(value)}" for key, value in self.rows[-1].facts())

    def add(self, row: Row) -> None:
        """Add a row and write the table."""
        self.rows.append(row)
        self.write()

    def summarise(self, write_line: Callable[[str], object]) -> None:
        """Show the rows in short, and say where the table lies."""
        for row in self.rows:
            write_line(f"{MARKS[row.ok]:8} {row.name}: {row.measured} {row.unit}")
        write_line(f"All of it lies in {self.folder}")

    def write(self) -> None:
        """Write both forms of the table."""
        self.folder.mkdir(parents=True, exist_ok=True)
        rows = [asdict(row) for row in self.rows]
        (self.folder / f"{self.name}.json").write_text(
            json.dumps(rows, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        (self.folder / f"{self.name}.md").write_text(table(self.rows), encoding="utf-8")


def table(rows: list[Row]) -> str:
    """Return the rows as a page."""
    lines = [["what", "goal", "measured", "reached", "counts"], ["---"] * 5, *map(cells, rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def cells(row: Row) -> list[str]:
    """Return the texts of a row, each on one line."""
    measured = "" if row.measured is None else f"{row.measured} {row.unit}"
    counts = ", ".join(f"{key} {shown(value)}" for key, value in row.counts.items())
    remarks = "; ".join(filter(None, [row.reason, counts]))
    texts = [row.name, row.goal, measured, MARKS[row.ok], remarks]
    return [" ".join(text.split()).replace("|", "/") for text in texts]


def shown(value: object) -> str:
    """Return a count as text, and of a long list its first entries and its length."""
    if not isinstance(value, list) or len(value) <= SHOWN:
        return str(value)
    return f"{value[:SHOWN]} and {len(value) - SHOWN} more"
