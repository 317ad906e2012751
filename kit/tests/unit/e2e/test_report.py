"""The report keeps what was measured, also of a run that breaks off."""

import json
from pathlib import Path
from typing import Any

import pytest

from kit.tests.e2e.report import GoalMissedError, Report


def rows(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "e2e.json").read_text())
    return found


def test_every_row_is_written_at_once_for_programs_and_for_people(tmp_path: Path) -> None:
    report = Report(tmp_path / "new", name="e2e", in_ci=True)
    assert rows(tmp_path / "new") == []
    report.row("restarts", goal="none", measured=0, unit="pods", ok=True, asked=7)
    assert rows(tmp_path / "new") == [
        {
            "name": "restarts",
            "goal": "none",
            "measured": 0,
            "unit": "pods",
            "ok": True,
            "reason": "",
            "counts": {"asked": 7},
        }
    ]
    assert "| restarts | none | 0 pods | yes | asked 7 |" in (tmp_path / "new/e2e.md").read_text()


def test_a_goal_that_is_missed_is_a_row_and_fails_the_test(tmp_path: Path) -> None:
    report = Report(tmp_path, name="e2e", in_ci=False)
    with pytest.raises(GoalMissedError, match="restarts: 2 pods, where the goal is none"):
        report.row("restarts", goal="none", measured=2, unit="pods", ok=False)
    assert [row["ok"] for row in rows(tmp_path)] == [False]


@pytest.mark.parametrize(
    ("in_ci", "ends"), [(True, pytest.fail.Exception), (False, pytest.skip.Exception)]
)
def test_what_a_cluster_lacks_is_null_and_fails_a_pipeline_only(
    tmp_path: Path, *, in_ci: bool, ends: type[BaseException]
) -> None:
    report = Report(tmp_path, name="e2e", in_ci=in_ci)
    with pytest.raises(ends, match="no metrics-server"):
        report.lacks("scaling", goal="up and down", reason="no metrics-server")
    (row,) = rows(tmp_path)
    assert (row["ok"], row["measured"], row["reason"]) == (None, None, "no metrics-server")


def test_a_test_that_breaks_is_a_row(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="line") as broken:
        raise ValueError("| and\na line")
    Report(tmp_path, name="e2e", in_ci=True).failed("test_x", broken)
    assert rows(tmp_path)[0]["ok"] is False
    assert "ValueError: / and a line |" in (tmp_path / "e2e.md").read_text()


def test_a_test_that_fails_shows_all_that_it_measured(tmp_path: Path) -> None:
    report = Report(tmp_path, name="e2e", in_ci=True)
    with pytest.raises(GoalMissedError) as missed:
        report.row("slow", goal="none", measured=12, ok=False, each=list(range(12)), asked=7)
    seen = report.failed("test_x", missed).splitlines()
    assert seen[0] == "name: slow"
    assert seen[-2:] == ["each: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9] and 2 more", "asked: 7"]
    assert len(rows(tmp_path)) == 1


def test_of_a_long_list_the_page_shows_the_first_and_the_file_all(tmp_path: Path) -> None:
    report = Report(tmp_path, name="e2e", in_ci=True)
    report.row("slow", goal="listed", measured=12, ok=True, each=list(range(12)))
    assert rows(tmp_path)[0]["counts"]["each"] == list(range(12))
    page = (tmp_path / "e2e.md").read_text()
    assert "each [0, 1, 2, 3, 4, 5, 6, 7, 8, 9] and 2 more |" in page
