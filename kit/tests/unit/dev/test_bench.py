"""What `make bench` asks for and tells."""

import json
from typing import Any

import pytest

from slipway_kit.dev import bench


def test_it_asks_for_what_needs_no_parameters() -> None:
    paths = bench.found({})
    assert paths
    assert all("{" not in path for path in paths)


def test_a_row_tells_what_was_served_refused_and_late(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = {"answers": [[0.1, 0.01, 200, 0]] * 300, "lateness": []}
    opened = {
        "answers": [
            *([[0.1, 0.02, 200, 0]] * 270),
            *([[0.1, 0.004, 503, 0]] * 300),
            [0.1, 5.0, 0, 0],
            [0.1, 0.003, 200, 1],
        ],
        "lateness": [0.001],
    }
    answers = iter([closed, opened])
    asked: list[Any] = []

    def generate(port: int, streams: Any, *, closed: int = 0) -> Any:
        asked.append((streams, closed))
        return next(answers)

    monkeypatch.setattr(bench, "generate", generate)
    row = bench.measure(1, "/x")
    assert row["answers a second"] == 100
    assert row["at 2 x: served of capacity"] == 0.9
    assert (row["refused"], row["failed"], row["worst probe, ms"]) == (300, 1, 3)
    (_, connections), (streams, _) = asked
    assert connections == bench.CONNECTIONS
    assert streams[0]["rate"] == 200
    assert bench.line(row).startswith("| /x | 100 | 10.0 |")
    json.dumps(row)


def test_a_path_that_answers_otherwise_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"answers": [[0.1, 0.01, 404, 0]] * 9, "lateness": []}
    monkeypatch.setattr(bench, "generate", lambda *_, **__: found)
    with pytest.raises(bench.BenchError, match=r"/x answers \[404\]: name paths that answer 200"):
        bench.measure(1, "/x")


def test_of_nothing_there_is_no_percentile() -> None:
    assert bench._milliseconds([], 0.99) == 0
