"""The hook for a faster way to observe histograms, and the gauge of the fast paths in use."""

from collections.abc import Callable

from slipway_kit.metrics.instruments import Gauge, Histogram

ENABLED = Gauge(
    "fast_path_enabled",
    "Whether a fast path of slipway_kit.fast is in use (1) or the library's own code (0).",
    ["name"],
    multiprocess_mode="livemax",
)
Observe = Callable[[float], None]


def by_library(histogram: Histogram) -> Observe:
    """Return the `observe` of the histogram itself."""
    return histogram.observe


class Observers:
    """How histograms are observed in this process; `find` can be replaced."""

    find: Callable[[Histogram], Observe] = staticmethod(by_library)


def observer(histogram: Histogram) -> Observe:
    """Return the function that observes a histogram of one set of labels, in this process."""
    return Observers.find(histogram)
