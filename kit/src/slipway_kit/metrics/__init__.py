"""Prometheus instruments, the files that worker slots write them to, and their exporter."""

from slipway_kit.metrics.instruments import Counter, Gauge, Histogram

__all__ = [
    "Counter",
    "Gauge",
    "Histogram",
]
