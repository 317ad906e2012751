"""Updates metric values in the worker's metric file directly; each series is looked up once.

prometheus_client looks up the labels and the position in the file, under a lock, for each of the
nine values of a request. With a single process there are no metric files: then the libraries' own
functions are used.
"""

import mmap
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, partial
from inspect import getclosurevars
from typing import Any
from weakref import WeakKeyDictionary

import prometheus_client
from prometheus_client import Histogram, mmap_dict, values
from prometheus_fastapi_instrumentator import metrics as instrumentator

from slipway_kit.fast import guard
from slipway_kit.http.records import Count, Records
from slipway_kit.metrics.fast_paths import Observe, Observers, by_library
from slipway_kit.metrics.files import ReservedDict

# The doubles of a metric file, and the index of one value among them.
Cell = tuple["memoryview[float]", int]
_Cells = tuple[Sequence[Cell], Sequence[float], Sequence[float]]
# Cached counters; the label sets of a service are fewer.
_MAX_CACHED = 4096
_KNOWN = frozenset({"21ef9304cfd20d59"})
# A separate mapping of each file: an exported view keeps a mapping from being closed after a fork.
_doubles: "WeakKeyDictionary[ReservedDict, memoryview[float]]" = WeakKeyDictionary()


def _parts() -> Iterable[Callable[..., Any]]:
    file, (counter, summary, histogram) = (
        mmap_dict.MmapedDict,
        (prometheus_client.Counter, prometheus_client.Summary, Histogram),
    )
    return [
        instrumentator.default,
        values.MultiProcessValue,
        *(file.__init__, file._init_value, file.read_value, file.write_value),  # noqa: SLF001
        *(counter._metric_init, counter.inc),  # noqa: SLF001
        *(summary._metric_init, summary.observe),  # noqa: SLF001
        *(histogram._metric_init, histogram._prepare_buckets, histogram.observe),  # noqa: SLF001
    ]


def supported() -> bool:
    """Whether the source of both libraries is known."""
    return guard.is_known(_parts, _KNOWN)


def enable(records: Records) -> None:
    """Use cells for `records` and for the frequently observed histograms of this process."""
    records.counter = lru_cache(_MAX_CACHED)(partial(_counter, records))
    Observers.find = staticmethod(observer)


def disable(records: Records) -> None:
    """Use the libraries' own functions."""
    records.counter = records.count_by_instrumentator
    Observers.find = staticmethod(by_library)


def observer(histogram: Histogram) -> Observe:
    """Return a faster `histogram.observe`, or that itself when its values are in no file."""
    amounts, counts, bounds = _private(histogram, "sum", "buckets", "upper_bounds")
    cells = _cells([amounts, *counts])
    if cells is None:
        return histogram.observe
    (file, total), *buckets = cells
    indexes = [index for _, index in buckets]

    def observe(amount: float) -> None:
        file[total] += amount
        file[indexes[bisect_left(bounds, amount)]] += 1.0

    return observe


def _counter(records: Records, method: str, status: str, handler: str) -> Count:
    """Return a function that counts requests with these labels."""
    family = getclosurevars(records.instrumented).nonlocals
    total = family["TOTAL"].labels(method, status, handler)
    received = family["IN_SIZE"].labels(handler)
    sent = family["OUT_SIZE"].labels(handler)
    fine, coarse = family["LATENCY_HIGHR"], family["LATENCY_LOWR"].labels(method, handler)
    cells = _cells(
        [
            *_private(total, "value"),
            *_private(received, "count", "sum"),
            *_private(sent, "count", "sum"),
            *_private(fine, "sum"),
            *_private(coarse, "sum"),
            *_private(fine, "buckets")[0],
            *_private(coarse, "buckets")[0],
        ]
    )
    if cells is None:
        return records.count_by_instrumentator(method, status, handler)
    return _direct(cells, *_private(fine, "upper_bounds"), *_private(coarse, "upper_bounds"))


def _direct(cells: Sequence[Cell], fine_bounds: Sequence[float], bounds: Sequence[float]) -> Count:
    """Return a function that updates the cells in place."""
    (counter, total), (summary, received_count), *_ = cells
    _, _, (_, received_sum), (_, sent_count), (_, sent_sum), (histogram, fine_sum), *_ = cells
    coarse_sum = cells[6][1]
    buckets = [index for _, index in cells[7:]]
    fine, coarse = buckets[: len(fine_bounds)], buckets[len(fine_bounds) :]

    def count(seconds: float, received: int, sent: int) -> None:
        counter[total] += 1.0
        summary[received_count] += 1.0
        summary[received_sum] += received
        summary[sent_count] += 1.0
        summary[sent_sum] += sent
        histogram[fine_sum] += seconds
        histogram[fine[bisect_left(fine_bounds, seconds)]] += 1.0
        histogram[coarse_sum] += seconds
        histogram[coarse[bisect_left(bounds, seconds)]] += 1.0

    return count


def _cells(found: Iterable[Any]) -> list[Cell] | None:
    """Return the cells; `None` when a value is in no file, or had no space on the volume."""
    cells = [_cell(value) for value in found]
    return None if None in cells else [cell for cell in cells if cell is not None]


def _cell(value: Any) -> Cell | None:
    # After a fork this opens the file of the new process.
    value.get()
    file, key = getattr(value, "_file", None), getattr(value, "_key", "")
    if not isinstance(file, ReservedDict) or file.is_dropped(key):
        return None
    capacity, positions = _private(file, "capacity", "positions")
    doubles = _doubles.get(file)
    if doubles is None or doubles.nbytes < capacity:
        (opened,) = _private(file, "f")
        doubles = memoryview(mmap.mmap(opened.fileno(), capacity)).cast("d")
        _doubles[file] = doubles
    return doubles, positions[key] // doubles.itemsize


def _private(owner: Any, *names: str) -> list[Any]:
    """Return private attributes of an object of prometheus_client."""
    return [getattr(owner, f"_{name}") for name in names]
