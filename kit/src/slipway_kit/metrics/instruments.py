"""Counters, gauges and histograms in memory, until `metrics.files` moves them to files.

With PROMETHEUS_MULTIPROC_DIR prometheus_client writes to that folder from its import on: before the
master has locked it, and in `python -m app migrate` too. So the library's metrics are made here.
"""

from collections.abc import Callable
from functools import partial

from prometheus_client import Counter, Histogram, values
from prometheus_client import Gauge as AnyGauge

__all__ = ["Counter", "Gauge", "Histogram"]

values.ValueClass = values.MutexValue
# By default a gauge is the sum over the running workers.
Gauge = partial(AnyGauge, multiprocess_mode="livesum")
FAST_PATHS = AnyGauge(
    "fast_path_enabled",
    "Whether a fast path of slipway_kit.fast is in use (1) or the library's own code (0).",
    ["name"],
    multiprocess_mode="livemax",
)


def observer(histogram: Histogram) -> Callable[[float], None]:
    """Return the function that observes a histogram in this process; a fast path replaces this."""
    return histogram.observe
