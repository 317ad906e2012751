"""Worker processes that only count, to be killed."""

import mmap
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.multiprocess import mark_process_dead

from slipway_kit.metrics import files
from slipway_kit.metrics.files import SafeCollector, SlotIdentity


def collected(folder: Path) -> dict[str, float]:
    totals: dict[str, float] = {}
    for metric in SafeCollector(None, str(folder)).collect():
        for sample in metric.samples:
            totals[sample.name] = totals.get(sample.name, 0) + sample.value
    return totals


class Family:
    """Workers of one master: each counts as fast as it can and notes what it has counted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.identity = SlotIdentity()
        self.notes = memoryview(mmap.mmap(-1, 8 * 256)).cast("q")
        self.started = 0
        self.living: dict[int, int] = {}
        files.install(self.identity, folder)

    def fork(self) -> None:
        slot, note = files.lowest_free(self.living.values()), self.started
        self.started += 1
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            try:
                self._work(slot, note)
            finally:
                os.kill(os.getpid(), signal.SIGKILL)
        self.living[pid] = slot

    def _work(self, slot: int, note: int) -> None:
        self.identity.use_slot(slot, folder=self.folder)
        registry, chance = CollectorRegistry(), random.Random(note)
        counter = Counter("c", "counted", ["label"], registry=registry)
        histogram = Histogram("h", "observed", registry=registry)
        for done in range(1, 2**30):
            counter.labels("x" * chance.randrange(80) + str(chance.randrange(30))).inc()
            histogram.observe(chance.random())
            self.notes[note] = done

    def kill(self, which: int, sig: signal.Signals) -> None:
        pid = sorted(self.living)[which % len(self.living)]
        os.kill(pid, sig)
        os.waitpid(pid, 0)
        mark_process_dead(self.living.pop(pid), str(self.folder))

    def noted(self) -> int:
        return sum(self.notes[: self.started])

    def end(self) -> None:
        while self.living:
            self.kill(0, signal.SIGKILL)


def one_life(family: Family, slot: int) -> None:
    family.identity.use_slot(slot, folder=family.folder)
    registry = CollectorRegistry()
    counter = Counter("c", "counted", ["route"], registry=registry)
    for route in range(20):
        counter.labels(f"/things/{route}").inc()


def in_child(work: Callable[[], object]) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException:  # noqa: BLE001 - a forked child must never return into the test
            os.kill(os.getpid(), signal.SIGABRT)
        os.kill(os.getpid(), signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
