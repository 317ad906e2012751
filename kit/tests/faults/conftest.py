"""The table of faults: build/reports/faults.json for programs, faults.md for people."""

import pytest

from kit.tests.e2e.report import Report
from kit.tests.support.report_hooks import (
    key,
    pytest_runtest_makereport,
    pytest_terminal_summary,
    report,
)

__all__ = ["pytest_runtest_makereport", "pytest_terminal_summary", "report"]


def pytest_configure(config: pytest.Config) -> None:
    """Begin the table anew."""
    config.stash[key] = Report(name="faults")
