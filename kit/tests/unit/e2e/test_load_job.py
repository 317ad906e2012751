"""The client as a Job, and what is read out of its result."""

import ast
import sys

import pytest

from kit.tests.e2e.load.client import options
from kit.tests.e2e.load_job import CONNECTIONS, HERE, MODULES, Load, Moment, key, numbers

FAILURE = {"count": 2, "first": 11.5, "last": 12.5, "times": [11.5, 12.5], "samples": []}
QUIET = {"requests": 0, "by_second": {}, "failures": {}, "slowest": []}
SLOW = {"at": 12.0, "kind": "read", "what": "GET /", "seconds": 1.5, "late": 0.0}
BUSY = {
    "requests": 30,
    "by_second": {"10": 10, "11": 10, "12": 10},
    "failures": {"refused": FAILURE},
    "slowest": [SLOW],
    "connections": {"silent": 1},
}
RESULT = {
    "busy": BUSY,
    "sockets": QUIET,
    "idle": {**QUIET, "failures": {"refused": FAILURE}},
    "writes": {"missing": ["a"], "imports": {"missing": ["b"]}},
}


def test_a_failure_and_a_silent_end_count_on_busy_connections_alone() -> None:
    load = Load(RESULT)
    assert load.requests == 30
    assert load.failed == 2 + 1
    assert set(load.failures) == {"busy: refused"}


def test_writes_and_imports_can_both_be_missing() -> None:
    assert Load(RESULT).missing == ["a", "b"]
    assert Load(RESULT).missing_writes == ["a"]


def test_each_slow_answer_is_a_line() -> None:
    assert Load(RESULT).slow == ["1.50 s GET / at 12.0"]


def test_a_moment_holds_what_happened_within_it() -> None:
    moment = Load(RESULT).within(11, 12)
    assert moment == Moment(10, {"busy: refused": [11.5]}, 11)
    assert (moment.failed, moment.lasted, moment.kinds) == (1, 0.5, {"busy: refused": 1})
    assert Load(RESULT).within(10, 11).lasted == 0


def test_the_client_needs_nothing_but_python() -> None:
    for path in MODULES:
        tree = ast.parse((HERE / path).read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                module = name.partition(".")[0]
                assert module in sys.stdlib_module_names or name.startswith(
                    ("kit.tests.e2e.load.", "kit.tests.e2e.shop.")
                )


def test_files_have_names_that_a_config_map_takes() -> None:
    assert len({key(path) for path in MODULES}) == len(MODULES) >= 4
    assert not any("/" in key(path) for path in MODULES)


@pytest.mark.parametrize("rate", [1, 10, 30, 150])
def test_a_small_load_has_fewer_connections_each_of_which_asks_often_enough(rate: float) -> None:
    chosen = options(["http://x", *numbers(rate)])
    assert chosen.rate == rate
    assert 1 <= chosen.connections <= CONNECTIONS
    assert chosen.connections / rate <= chosen.drain_seconds / 2
