"""Prometheus instruments, the metric files of worker slots, and their exporter."""

from slipway_kit.metrics.instruments import Counter, Gauge, Histogram

__all__ = [
    "Counter",
    "Gauge",
    "Histogram",
]
