"""Which of the library's tests run on a scaffolded service."""

from pathlib import Path

from tools import on_service
from tools.mutate import QUARTERS


def test_four_quarters_run_every_file_and_each_what_is_measured_always() -> None:
    files = {path.name for path in (on_service.KIT / "tests/e2e").glob("test_*.py")}
    # Absolute: a path of the folder where pytest begins names another file once tests run.
    given = [argument.partition("=")[2] for argument in on_service.left_out("e2e", 1)]
    assert given
    assert all(Path(path).is_absolute() and Path(path).exists() for path in given)
    runs = [
        files - {argument.rpartition("/")[2] for argument in on_service.left_out("e2e", commits)}
        for commits in range(101, 101 + QUARTERS)
    ]
    assert set.union(*runs) == files
    always = set.intersection(*runs)
    assert always == {"test_1_install.py", "test_2_rollouts.py", "test_9_connections.py"}
    # Each of the others runs in one of the four, and what is left out is there.
    assert sum(len(run - always) for run in runs) == len(files - always)


def test_without_a_number_nothing_is_left_out() -> None:
    assert on_service.left_out("e2e", None) == on_service.left_out("faults", 1) == []
