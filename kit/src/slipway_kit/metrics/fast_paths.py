"""Where `service` may put a faster way to observe a histogram, and which fast ways are on."""

from collections.abc import Callable

from slipway_kit.metrics.instruments import Gauge, Histogram

ENABLED = Gauge(
    "fast_path_enabled",
    "Whether a shortcut of slipway_kit.fast is in use (1) or the libraries' own way (0).",
    ["name"],
    multiprocess_mode="livemax",
)
Observe = Callable[[float], None]


def by_library(histogram: Histogram) -> Observe:
    """Return the histogram's own method."""
    return histogram.observe


class Observers:
    """How histograms are observed in this process."""

    find: Callable[[Histogram], Observe] = staticmethod(by_library)


def observer(histogram: Histogram) -> Observe:
    """Return what does as `histogram.observe`.

    Ask in the process that observes, and for the histogram of one set of labels.
    """
    return Observers.find(histogram)
