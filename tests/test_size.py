"""A service stays small: what its owner has to know is counted, file by file and line by line."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import baking

# Files and lines of each example, at most.
LIMITS = {"shop": (50, 4000), "none": (27, 1200)}
# What nobody reads who works on a service: written by commands, or the template's own.
NOT_COUNTED = ("requirements.txt", "requirements-dev.txt", "tests/openapi.json")
VENDORED = ("slipway_kit/",)
README_LINES, CONTRIBUTING_LINES, MAIN_LINES = 120, 60, 60


def owned(service: Path, linked: frozenset[str]) -> Iterator[str]:
    """Yield the path of each file that the owner of a service keeps."""
    for name in baking.files(service):
        vendored = name.startswith(VENDORED) or name in linked
        if not vendored and name not in NOT_COUNTED:
            yield name


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


@pytest.fixture(scope="session")
def linked(source: Path) -> frozenset[str]:
    """Files of the chart that are links to helm/service, the same in every service."""
    chart = source / baking.SERVICE / "chart"
    return frozenset(
        str(path.relative_to(chart.parent))
        for link in chart.iterdir()
        if link.is_symlink()
        for path in ([link] if link.is_file() else baking.walk(link))
    )


@pytest.mark.parametrize("ci", ["github", "gitlab"])
@pytest.mark.parametrize("example", ["shop", "none"])
def test_a_service_has_no_more_files_and_lines_than_its_owner_can_know(
    example: str,
    ci: str,
    baked: dict[tuple[str, str], Path],
    linked: frozenset[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    service = baked[example, ci]
    counted = {name: lines(service / name) for name in owned(service, linked)}
    with capsys.disabled():
        sum_of = f"{len(counted)} files, {sum(counted.values())} lines"
        sys.stdout.write(f"\n{example}, {ci}: {sum_of} that the owner keeps\n")
    longest = sorted(counted.items(), key=lambda each: -each[1])
    files, most_lines = LIMITS[example]
    assert len(counted) <= files, longest
    assert sum(counted.values()) <= most_lines, longest


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("README.md", README_LINES),
        ("CONTRIBUTING.md", CONTRIBUTING_LINES),
        ("app/main.py", MAIN_LINES),
    ],
)
def test_what_a_newcomer_reads_first_is_short(name: str, most: int, combination: Path) -> None:
    assert lines(combination / name) <= most


def test_a_file_of_the_owner_is_counted_and_what_commands_write_is_not(
    baked: dict[tuple[str, str], Path], linked: frozenset[str], tmp_path: Path
) -> None:
    service = shutil.copytree(baked["none", "github"], tmp_path / "service")
    before = set(owned(service, linked))
    (service / "tests/openapi.json").write_text("{}\n")
    (service / "slipway_kit/more.py").write_text("\n")
    (service / "app/more.py").write_text("\n")
    assert set(owned(service, linked)) - before == {"app/more.py"}
