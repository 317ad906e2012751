"""Worker slots under random kills, with real processes."""

import signal
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kit.tests.support.metrics import restored_metrics
from kit.tests.support.workers import Family, collected, in_child, one_life


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    with restored_metrics():
        yield


kills = st.tuples(
    st.integers(0, 2),
    st.sampled_from([signal.SIGKILL, signal.SIGTERM]),
    st.floats(0, 0.006),
)


@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(schedule=st.lists(kills, min_size=2, max_size=10))
def test_counters_never_go_back_nor_double_whoever_is_killed_when(
    tmp_path_factory: pytest.TempPathFactory, schedule: list[tuple[int, signal.Signals, float]]
) -> None:
    family = Family(tmp_path_factory.mktemp("metrics"))
    last = (0.0, 0.0)
    try:
        for _ in range(3):
            family.fork()
        for which, sig, pause in schedule:
            time.sleep(pause)
            family.kill(which, sig)
            family.fork()
            least = family.noted()
            found = collected(family.folder)
            counts = (found.get("c_total", 0), found.get("h_count", 0))
            # Each process may have counted once what it has not noted yet.
            most = family.noted() + family.started
            assert all(least <= count <= most for count in counts)
            assert counts[0] >= last[0]
            assert counts[1] >= last[1]
            last = counts
    finally:
        family.end()
    assert len(list(family.folder.glob("*.db"))) <= 2 * 3


def test_two_hundred_recycles_leave_as_many_files_and_bytes_as_four(tmp_path: Path) -> None:
    family = Family(tmp_path)
    sizes: dict[int, tuple[int, int, int]] = {}
    for recycled in range(1, 201):
        in_child(partial(one_life, family, recycled % 4))
        files = list(tmp_path.glob("*.db"))
        sizes[recycled] = (len(files), sum(f.stat().st_size for f in files), read_bytes(tmp_path))
    assert sizes[200] == sizes[4]
    assert collected(tmp_path)["c_total"] == 200 * 20


def read_bytes(folder: Path) -> int:
    """Return how much a scrape has to read: the used part of every file."""
    return sum(int.from_bytes(file.read_bytes()[:4], sys.byteorder) for file in folder.glob("*.db"))
