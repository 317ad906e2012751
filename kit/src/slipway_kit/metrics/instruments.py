"""Counters, gauges and histograms, kept in memory until a master has a folder for them.

prometheus_client decides when it is imported: with PROMETHEUS_MULTIPROC_DIR it would write to that
folder before the master has claimed it, and in `python -m app migrate` as well. So the modules of
the kit take their metrics from here; `metrics.files` moves them to files.
"""

from functools import partial

from prometheus_client import Counter, Histogram, values
from prometheus_client import Gauge as AnyGauge

__all__ = ["Counter", "Gauge", "Histogram"]

values.ValueClass = values.MutexValue
# What a gauge shows is the sum over the workers that live, unless it says otherwise.
Gauge = partial(AnyGauge, multiprocess_mode="livesum")
