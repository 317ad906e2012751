"""Worker slots: a new worker continues the metric files of the one that it replaces.

prometheus_client names its files after process ids, so every replaced worker would leave files that
each scrape reads. A slot is the lowest number that no running worker has: the number of files stays
constant, and counters continue.
"""

import mmap
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import ClassVar

import structlog
from prometheus_client import (
    GC_COLLECTOR,
    PLATFORM_COLLECTOR,
    PROCESS_COLLECTOR,
    CollectorRegistry,
    Enum,
    Gauge,
    Info,
    multiprocess,
    values,
)
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric
from prometheus_client.mmap_dict import MmapedDict

from slipway_kit.clock import now
from slipway_kit.errors import SettingsError

log = structlog.get_logger()
# The size of a new file of prometheus_client.
FILE_BYTES = 2**16
_DEFAULTS = (GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR)
# The number of used bytes, and padding.
_HEADER_BYTES = 8
# Between two tries to find space, and between two warnings that there is none.
_RETRY_SECONDS, _WARN_SECONDS = 5.0, 300.0
LOST = "metrics are not exported, for their file has no space"


class ReservedDict(MmapedDict):
    """A metric file whose pages are allocated before they are written.

    Writing to an unallocated page of a full volume would kill the process with SIGBUS. Here series
    for which there is no space, or no file descriptor, are counted in memory and tried again: an
    instrument never fails what it measures.
    """

    # Of all files of this process.
    _warn_at: ClassVar[float] = 0.0

    def __init__(self, filename: str) -> None:
        self._fname, self._mapped, self._retry_at = filename, False, 0.0
        self._positions: dict[str, int] = {}
        self._try(self._open)

    def _open(self) -> None:
        file = Path(self._fname)
        file.touch(mode=0o600)
        if not _size(file):
            with file.open("ab") as new:
                _allocate(new.fileno(), FILE_BYTES)
        try:
            super().__init__(self._fname)
        except OSError:
            with suppress(AttributeError):
                self._f.close()
            raise
        self._mapped = True

    def close(self) -> None:
        """Close the file, if it could be opened."""
        if self._mapped:
            super().close()

    def _init_value(self, key: str) -> None:
        if not self._mapped:
            self._open()
        if key in self._positions:
            return
        needed = self._used + len(key.encode()) + 32
        capacity = self._capacity
        while capacity < needed:
            capacity *= 2
        if capacity > self._capacity:
            _allocate(self._f.fileno(), capacity)
            self._m, self._capacity = mmap.mmap(self._f.fileno(), capacity), capacity
        super()._init_value(key)

    def read_value(self, key: str) -> tuple[float, float]:
        """Return value and timestamp of a series; create a new one."""
        found: tuple[float, float] = super().read_value(key) if self._holds(key) else (0.0, 0.0)
        return found

    def write_value(self, key: str, value: float, timestamp: float) -> None:
        """Store a value, unless there is no space for its series."""
        if self._holds(key):
            super().write_value(key, value, timestamp)

    def _holds(self, key: str) -> bool:
        """Create a new series if there is space; tell whether the file has it."""
        if key not in self._positions and now() >= self._retry_at:
            self._try(partial(self._init_value, key))
        return key in self._positions

    def _try(self, step: Callable[[], None]) -> None:
        try:
            step()
        except OSError as error:
            self._retry_at = now() + _RETRY_SECONDS
            if now() >= ReservedDict._warn_at:
                ReservedDict._warn_at = now() + _WARN_SECONDS
                # In a thread: the caller holds the lock of all metrics, and the log has some too.
                said = {"file": self._fname, "error": error.strerror}
                with suppress(RuntimeError):
                    threading.Thread(target=log.warning, args=(LOST,), kwargs=said).start()


class SlotIdentity:
    """The suffix of this process's metric files: the slot in a worker, else the process id."""

    def __init__(self) -> None:
        self._slot = ""
        self._pid = 0

    def use_slot(self, slot: int, *, folder: Path) -> None:
        """Become the worker of `slot`; set its damaged files aside."""
        self._slot, self._pid = str(slot), os.getpid()
        for file in folder.glob(f"*_{slot}.db"):
            if _size(file) and not _readable(file):
                file.rename(file.with_suffix(".damaged"))

    def __call__(self) -> str:
        """Return the suffix; a child of a worker has its own."""
        pid = os.getpid()
        return self._slot if pid == self._pid else f"p{pid}"


class SafeCollector(multiprocess.MultiProcessCollector):
    """Reads the metric files without those that are empty, removed or damaged."""

    def collect(self) -> Iterable[Metric]:
        """Return the merged metrics of all processes."""
        files = [file for file in sorted(Path(self._path).glob("*.db")) if _size(file)]
        try:
            return self._merge(files)
        except Exception:  # noqa: BLE001 (a damaged file may raise anything)
            return self._merge(file for file in files if _readable(file))

    def _merge(self, files: Iterable[Path]) -> Iterable[Metric]:
        merged: Iterable[Metric] = self.merge([str(file) for file in files], accumulate=True)
        return merged


def install(identity: SlotIdentity, folder: Path) -> None:
    """Make metrics that are created from now on write to `folder`."""
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    setattr(values, "MmapedDict", ReservedDict)  # noqa: B010 (the name is not exported)
    values.ValueClass = values.MultiProcessValue(identity)


def move_to_files(registry: CollectorRegistry) -> None:
    """Make metrics write to files that were created before `install`.

    gunicorn.conf.py imports modules with metrics before the master has a folder.
    """
    # prometheus_client has no public list of what is registered.
    for metric in list(registry._collector_to_names):  # noqa: SLF001
        if isinstance(metric, MetricWrapperBase):
            for each in metric._metrics.values() if metric._is_parent() else [metric]:  # noqa: SLF001
                each._metric_init()  # noqa: SLF001


def not_exported(registry: CollectorRegistry) -> list[str]:
    """Return the names of metrics that files cannot hold: those that are computed, Info, Enum.

    Without the three collectors that prometheus_client registers itself.
    """
    return [
        names[0] if names else type(metric).__name__
        for metric, names in registry._collector_to_names.items()  # noqa: SLF001
        if metric not in _DEFAULTS
        and (
            not isinstance(metric, MetricWrapperBase)
            or isinstance(metric, Enum | Info)
            # Of a gauge with `set_function`.
            or "_child_samples" in vars(metric)
        )
    ]


def set_before_fork(registry: CollectorRegistry) -> list[str]:
    """Return the names of gauges that are set already: what a worker sets would be added to it.

    The modes in which one value wins are for such constants.
    """
    gauges = [each for each in registry._collector_to_names if isinstance(each, Gauge)]  # noqa: SLF001
    return [
        gauge._name  # noqa: SLF001
        for gauge in gauges
        if not gauge._multiprocess_mode.endswith(("max", "min", "mostrecent"))  # noqa: SLF001
        and any(sample.value for family in gauge.collect() for sample in family.samples)
    ]


def lowest_free(taken: Iterable[int]) -> int:
    """Return the lowest free slot."""
    used = set(taken)
    return next(slot for slot in range(len(used) + 1) if slot not in used)


def require_room(folder: Path, *, workers: int) -> None:
    """Raise `SettingsError` when the volume lacks space for the first files of the workers."""
    # Five files per worker: counter, histogram, summary, two types of gauge. A reload doubles the
    # workers.
    needed, free = 2 * workers * 5 * FILE_BYTES, shutil.disk_usage(folder).free
    if free < needed:
        raise SettingsError(
            f"the metrics volume {folder} has {free // 1024} KiB free and {workers} workers need"
            f" {needed // 1024}: enlarge it or lower WEB_CONCURRENCY."
        )


def _allocate(descriptor: int, size: int) -> None:
    if sys.platform == "linux":
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.truncate(descriptor, size)


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def _readable(file: Path) -> bool:
    try:
        used = int.from_bytes(file.read_bytes()[:4], sys.byteorder, signed=True)
        # prometheus_client would write before the file's first value.
        if 0 != used < _HEADER_BYTES:
            raise ValueError(f"{used} bytes are used")  # noqa: TRY301 (logged below)
        for _ in MmapedDict.read_all_values_from_file(str(file)):
            pass
    except FileNotFoundError:
        return False
    except Exception:
        log.exception("damaged metric file is not counted", file=str(file))
        return False
    return True
