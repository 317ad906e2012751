"""What every database of this run counted, beside what each release had promised."""

import pytest

from kit.tests.e2e.connections import Ledger
from kit.tests.e2e.report import Report

pytestmark = pytest.mark.timeout(60)

NAME = "connections of the database, counted twice a second through all of it"
GOAL = "never above the budget that NOTES printed, without what it reserves for others"


def test_the_connections_never_exceed_the_budget_that_notes_printed(
    ledgers: list[Ledger], report: Report
) -> None:
    if not ledgers:
        report.lacks(NAME, goal=GOAL, reason="no other test of this run had a database")
    samples = sum(len(ledger.counted) for ledger in ledgers)
    excesses = [excess for ledger in ledgers for excess in ledger.excesses()]
    peaks = {
        ledger.space: f"{ledger.peak()} of {max(budget for _, budget in ledger.budgets)}"
        for ledger in ledgers
        if ledger.budgets
    }
    report.row(
        NAME,
        goal=GOAL,
        measured=len(excesses),
        unit=f"of {samples} counts above it",
        ok=not excesses and samples > 0 and any(ledger.peak() for ledger in ledgers),
        peaks=peaks,
        excesses=excesses[:10],
    )
