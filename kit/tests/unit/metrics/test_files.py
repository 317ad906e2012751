"""Worker slots, their metric files, and damaged files."""

import mmap
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from prometheus_client import (
    GC_COLLECTOR,
    PLATFORM_COLLECTOR,
    PROCESS_COLLECTOR,
    CollectorRegistry,
    Counter,
    Enum,
    Gauge,
    Histogram,
    Info,
    Summary,
)
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.multiprocess import mark_process_dead
from prometheus_client.registry import Collector

from kit.tests.support.metrics import restored_metrics
from kit.tests.support.volumes import volume
from kit.tests.support.workers import Family, collected, in_child, one_life
from slipway_kit.errors import SettingsError
from slipway_kit.metrics import files
from slipway_kit.metrics.files import SlotIdentity
from slipway_kit.testing.waiting import eventually


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    with restored_metrics():
        yield


def test_a_new_worker_continues_the_counters_of_its_slot(tmp_path: Path) -> None:
    family = Family(tmp_path)
    for _ in range(3):
        in_child(lambda: one_life(family, 0))
    assert collected(tmp_path)["c_total"] == 60
    assert [file.name for file in tmp_path.iterdir()] == ["counter_0.db"]


def test_a_child_of_a_worker_writes_its_own_files(tmp_path: Path) -> None:
    family = Family(tmp_path)

    def worker() -> None:
        one_life(family, 0)
        in_child(lambda: Counter("d", "child's", registry=CollectorRegistry()).inc())

    in_child(worker)
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names[0] == "counter_0.db"
    assert names[1].startswith("counter_p")
    assert collected(tmp_path)["d_total"] == 1


def test_metrics_created_before_the_folder_are_moved_to_files(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    plain = Counter("early", "plain", registry=registry)
    labelled = Counter("sorted", "labelled", ["kind"], registry=registry)
    child = labelled.labels("x")
    family = Family(tmp_path)
    files.move_to_files(registry)

    def worker() -> None:
        family.identity.use_slot(0, folder=tmp_path)
        plain.inc()
        child.inc(2)

    in_child(worker)
    found = collected(tmp_path)
    assert (found["early_total"], found["sorted_total"]) == (1, 2)


def test_live_gauges_of_a_dead_worker_are_removed(tmp_path: Path) -> None:
    family = Family(tmp_path)

    def worker(slot: int) -> None:
        family.identity.use_slot(slot, folder=tmp_path)
        gauge = Gauge("g", "alive", registry=CollectorRegistry(), multiprocess_mode="livesum")
        gauge.set(1)

    in_child(lambda: worker(0))
    in_child(lambda: worker(1))
    assert collected(tmp_path)["g"] == 2
    mark_process_dead(0, str(tmp_path))
    assert collected(tmp_path)["g"] == 1


@pytest.mark.parametrize(
    "damage",
    [b"\xff" * 64, b"\x40\x00\x00\x00", b"\x10\x00\x00\x00" * 9],
    ids=["negative size", "too short", "wrong lengths"],
)
def test_a_damaged_file_is_set_aside_and_the_others_count(tmp_path: Path, damage: bytes) -> None:
    family = Family(tmp_path)
    in_child(lambda: one_life(family, 0))
    (tmp_path / "counter_1.db").write_bytes(damage)
    assert collected(tmp_path)["c_total"] == 20
    in_child(lambda: one_life(family, 1))
    assert collected(tmp_path)["c_total"] == 40
    assert (tmp_path / "counter_1.damaged").read_bytes() == damage


def test_an_empty_or_removed_file_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "counter_0.db").touch()
    (tmp_path / "counter_1.db").symlink_to(tmp_path / "gone")
    assert collected(tmp_path) == {}


def test_the_lowest_free_slot_is_used() -> None:
    assert files.lowest_free([]) == 0
    assert files.lowest_free([0, 1, 3]) == 2
    assert files.lowest_free([1, 2]) == 0


def full_disk(*_: Any, **__: Any) -> None:
    raise OSError(28, "No space left on device")


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is said of files without space, by threads that the test need not wait for."""
    said: list[str] = []
    monkeypatch.setattr(files.ReservedDict, "_warn_at", 0.0)
    monkeypatch.setattr(files.log, "warning", lambda event, **_: said.append(event))
    return said


def test_a_file_that_cannot_be_made_is_made_when_there_is_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warnings: list[str]
) -> None:
    clock = [100.0]
    monkeypatch.setattr(files, "now", lambda: clock[0])
    with monkeypatch.context() as full:
        full.setattr(files, "_allocate", full_disk)
        first, second = (files.ReservedDict(str(tmp_path / f"{name}_0.db")) for name in "ab")
        for file in (first, second):
            file.write_value("x", 1.0, 0.0)
            assert file.read_value("x") == (0.0, 0.0)
    first.write_value("x", 2.0, 0.0)
    assert not first._holds("x")
    clock[0] += files._RETRY_SECONDS
    first.write_value("x", 3.0, 0.0)
    assert [value for _, value, _ in first.read_all_values()] == [3.0]
    eventually(lambda: warnings == [files.LOST])
    first.close()
    second.close()


def test_a_file_that_cannot_be_mapped_leaves_no_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warnings: list[str]
) -> None:
    monkeypatch.setattr(mmap, "mmap", full_disk)
    before = psutil.Process().num_fds()
    file = files.ReservedDict(str(tmp_path / "counter_0.db"))
    assert psutil.Process().num_fds() == before
    file.write_value("x", 1.0, 0.0)
    file.close()
    eventually(lambda: warnings == [files.LOST])


def test_a_file_that_cannot_grow_drops_new_series_and_keeps_the_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warnings: list[str]
) -> None:
    file = files.ReservedDict(str(tmp_path / "counter_0.db"))
    file.write_value("old" * 20_000, 1.0, 0.0)
    monkeypatch.setattr(files, "_allocate", full_disk)
    for name in ("new" * 2000, "newer" * 2000):
        file.write_value(name, 5.0, 0.0)
        assert file.read_value(name) == (0.0, 0.0)
        file.write_value(name, 6.0, 0.0)
    file.write_value("old" * 20_000, 2.0, 0.0)
    assert [value for _, value, _ in file.read_all_values()] == [2.0]
    eventually(lambda: warnings == [files.LOST])
    file.close()


def test_the_warning_waits_for_no_lock_of_the_metrics(tmp_path: Path) -> None:
    """The log counts the lines that it drops, in the file that has no space."""

    def counts() -> None:
        identity = SlotIdentity()
        files.install(identity, tmp_path)
        vars(files)["_allocate"] = full_disk
        dropped = Counter("dropped", "counted", registry=CollectorRegistry())
        vars(files)["log"] = SimpleNamespace(warning=lambda *_, **__: dropped.inc())
        Gauge("g", "without space", registry=CollectorRegistry()).set(1)

    in_child(counts)


def test_a_volume_without_room_for_the_workers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="lower WEB_CONCURRENCY"):
        files.require_room(tmp_path, workers=10**9)
    files.require_room(tmp_path, workers=1)


def test_a_volume_that_is_really_full_does_not_kill_the_process(tmp_path: Path) -> None:
    with volume(tmp_path / "small", kib=128) as small:
        in_child(lambda: fill(small))
        assert collected(small)["c_total"] > 100


def fill(folder: Path) -> None:
    identity = SlotIdentity()
    files.install(identity, folder)
    identity.use_slot(0, folder=folder)
    counter = Counter("c", "counted", ["label"], registry=CollectorRegistry())
    for number in range(2000):
        counter.labels("x" * 80 + str(number)).inc()


def test_metrics_that_no_file_holds_are_named() -> None:
    class Computed(Collector):
        def collect(self) -> Iterator[Any]:
            yield GaugeMetricFamily("computed", "at each scrape", value=1)

    registry = CollectorRegistry()
    for default in (GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR):
        registry.register(default)
    for whole in (Counter, Gauge, Histogram, Summary):
        whole(whole.__name__.lower(), "exported", registry=registry)
    assert files.not_exported(registry) == []
    Info("build", "of the image", registry=registry)
    Enum("state", "of a machine", states=["on", "off"], registry=registry)
    Gauge("asked", "by a function", registry=registry).set_function(lambda: 1)
    registry.register(Computed())
    assert files.not_exported(registry) == ["build", "state", "asked", "Computed"]


def test_gauges_that_are_set_before_the_fork_are_named() -> None:
    registry = CollectorRegistry()
    Gauge("untouched", "0", registry=registry)
    Gauge("early", "set at import", registry=registry, multiprocess_mode="livesum").set(1)
    labelled = Gauge("labelled", "set at import", ["kind"], registry=registry)
    labelled.labels("some").inc()
    Gauge("constant", "one wins", registry=registry, multiprocess_mode="livemax").set(1)
    assert files.set_before_fork(registry) == ["early", "labelled"]
