"""Updates metric values in the worker's metric file directly; each series is looked up once.

prometheus_client looks up the labels and the position in the file, under a lock, for each of the
nine values of a request. With a single process there are no metric files: then the libraries' own
functions are used.
"""

import mmap
from bisect import bisect_left
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from inspect import getclosurevars
from typing import Any
from weakref import WeakKeyDictionary

from prometheus_client import Counter, Histogram, Summary, mmap_dict, values
from prometheus_fastapi_instrumentator import metrics as instrumentator

from slipway_kit.fast.guard import FastPath
from slipway_kit.http.records import Count, Records
from slipway_kit.metrics import instruments
from slipway_kit.metrics.files import ReservedDict

# The doubles of a metric file, and the index of one value among them.
Cell = tuple["memoryview[float]", int]
# Cached counters; the label sets of a service are fewer.
_MAX_CACHED = 4096
# A separate mapping of each file: an exported view keeps a mapping from being closed after a fork.
_doubles: "WeakKeyDictionary[ReservedDict, memoryview[float]]" = WeakKeyDictionary()


def _parts() -> Iterable[Callable[..., Any]]:
    file = mmap_dict.MmapedDict
    return [
        instrumentator.default,
        values.MultiProcessValue,
        *(file.__init__, file._init_value, file.read_value, file.write_value),
        *(Counter._metric_init, Counter.inc, Summary._metric_init, Summary.observe),
        *(Histogram._metric_init, Histogram._prepare_buckets, Histogram.observe),
    ]


_path = FastPath(_parts, "21ef9304cfd20d59")
supported, disable = _path.supported, _path.disable


def enable(records: Records) -> None:
    """Use cells for `records` and for the frequently observed histograms of this process."""
    _path.replace(records, "counter", lru_cache(_MAX_CACHED)(partial(_counter, records)))
    _path.replace(instruments, "observer", observer)


def observer(histogram: Any) -> Callable[[float], None]:
    """Return a faster `histogram.observe`, or that itself when its values are in no file."""
    bounds = histogram._upper_bounds
    cells = _cells(histogram._sum, *histogram._buckets)
    if cells is None:
        own: Callable[[float], None] = histogram.observe
        return own
    (file, total), *buckets = cells
    indexes = [index for _, index in buckets]

    def observe(amount: float) -> None:
        file[total] += amount
        file[indexes[bisect_left(bounds, amount)]] += 1.0

    return observe


def _counter(records: Records, method: str, status: str, handler: str) -> Count:
    """Return a function that counts requests with these labels."""
    family = getclosurevars(records.instrumented).nonlocals
    requests = family["TOTAL"].labels(method, status, handler)
    asked, answered = family["IN_SIZE"].labels(handler), family["OUT_SIZE"].labels(handler)
    cells = _cells(requests._value, asked._count, asked._sum, answered._count, answered._sum)
    if cells is None:
        return Records.counter(records, method, status, handler)
    (counter, total), (summary, in_count), (_, in_sum), (_, out_count), (_, out_sum) = cells
    observe_fine = observer(family["LATENCY_HIGHR"])
    observe_coarse = observer(family["LATENCY_LOWR"].labels(method, handler))

    def count_directly(seconds: float, received: int, sent: int) -> None:
        counter[total] += 1.0
        summary[in_count] += 1.0
        summary[in_sum] += received
        summary[out_count] += 1.0
        summary[out_sum] += sent
        observe_fine(seconds)
        observe_coarse(seconds)

    return count_directly


def _cells(*found: Any) -> list[Cell] | None:
    """Return the cells; `None` when a value is in no file, or had no space on the volume."""
    cells = [cell for value in found if (cell := _cell(value))]
    return cells if len(cells) == len(found) else None


def _cell(value: Any) -> Cell | None:
    # After a fork this opens the file of the new process.
    value.get()
    file: Any = getattr(value, "_file", None)
    if not isinstance(file, ReservedDict) or value._key not in file._positions:
        return None
    doubles = _doubles.get(file)
    if doubles is None or doubles.nbytes < file._capacity:
        try:
            doubles = memoryview(mmap.mmap(file._f.fileno(), file._capacity)).cast("d")
        except OSError:
            # No file descriptor is left.
            return None
        _doubles[file] = doubles
    return doubles, file._positions[value._key] // doubles.itemsize
