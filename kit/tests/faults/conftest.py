"""The table of faults: build/reports/faults.json for programs, faults.md for people."""

from collections.abc import Generator

import pytest

from kit.tests.e2e.report import Report

report_key = pytest.StashKey[Report]()


def pytest_configure(config: pytest.Config) -> None:
    """Begin the table anew."""
    config.stash[report_key] = Report(name="faults")


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Show the table in short."""
    config.stash[report_key].summarise(terminalreporter.write_line)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the row of a test that failed."""
    report = yield
    if report.failed and call.excinfo:
        row = item.config.stash[report_key].failed(item.name, call.excinfo)
        report.sections.append(("what was measured", row))
    return report


@pytest.fixture(scope="session")
def report(pytestconfig: pytest.Config) -> Report:
    """The table of what was measured."""
    return pytestconfig.stash[report_key]
