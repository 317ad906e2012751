"""Hooks and fixture of a suite that writes a table; its conftest imports them and says its name."""

from collections.abc import Callable, Generator

import pytest

from kit.tests.e2e.report import Report

key = pytest.StashKey[Report]()
# What else a test that failed shows, by title.
stories: dict[str, Callable[[], str]] = {}


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Show the table in short, and say where it lies."""
    config.stash[key].summarise(terminalreporter.write_line)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the row of a test that failed, and the stories."""
    report = yield
    if report.failed and call.excinfo:
        row = item.config.stash[key].failed(item.name, call.excinfo)
        report.sections.append(("what was measured", row))
        report.sections += [(title, story()) for title, story in stories.items()]
    return report


@pytest.fixture(scope="session")
def report(pytestconfig: pytest.Config) -> Report:
    """The table of what was measured."""
    return pytestconfig.stash[key]
