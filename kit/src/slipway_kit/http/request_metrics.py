"""The instrumentator's metrics of a request, written where the exporter reads them.

prometheus-fastapi-instrumentator makes the metrics and stays their definition. Its own middleware
matches each route again and looks every series up; here a series is looked up once, and then the
files of the workers are written in place. That takes insight into two libraries. Where they have
changed, or one process serves alone, the instrumentator's own function counts: same series, slower.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from inspect import getclosurevars
from types import SimpleNamespace
from typing import Any

from prometheus_client import CollectorRegistry, values
from prometheus_fastapi_instrumentator.metrics import default

from slipway_kit.metrics.files import Cell, cell_of, private

_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
# What the instrumentator calls requests that no route matched.
NO_ROUTE = "none"
# In place of a method; what the instrumentator measures is HTTP.
WEBSOCKET = "WEBSOCKET"
# Asked by every kubelet every few seconds, and no work.
PROBES = frozenset({"/livez", "/readyz", "/startupz", "/health"})

# Takes seconds, bytes received and bytes sent, as the length headers say.
Count = Callable[[float, int, int], None]


class RequestMetrics:
    """Counts requests in five families of series, which `registry` gets."""

    def __init__(self, registry: CollectorRegistry) -> None:
        count = default(registry=registry)
        assert count is not None  # noqa: S101 (so it is for a registry that has them already)
        self._count = count

    def of(self, *, method: str, handler: str, status: int) -> Count:
        """Return what counts a request; ask once for each method, handler and status."""
        if method == WEBSOCKET or handler in PROBES:
            return _ignore
        labels = (method_label(method), f"{status // 100}xx", handler)
        try:
            cells = self._cells(*labels)
        except (AttributeError, KeyError, TypeError):
            # Another version of the libraries; the tests say so first.
            cells = None
        return self._public(*labels) if cells is None else _direct(*cells)

    def _public(self, method: str, status: str, handler: str) -> Count:
        def count(seconds: float, received: int, sent: int) -> None:
            request = SimpleNamespace(headers={"Content-Length": received})
            response = SimpleNamespace(headers={"Content-Length": sent})
            info: Any = SimpleNamespace(
                request=request,
                response=response,
                method=method,
                modified_handler=handler,
                modified_status=status,
                modified_duration=seconds,
            )
            self._count(info)

        return count

    def _cells(self, method: str, status: str, handler: str) -> "_Cells | None":
        """Return where the values of one request lie; `None` when they are in no file."""
        if not values.ValueClass._multiprocess:  # noqa: SLF001 (no public way to ask)
            return None
        family = getclosurevars(self._count).nonlocals
        total = family["TOTAL"].labels(method, status, handler)
        received = family["IN_SIZE"].labels(handler)
        sent = family["OUT_SIZE"].labels(handler)
        fine, coarse = family["LATENCY_HIGHR"], family["LATENCY_LOWR"].labels(method, handler)
        found = [
            cell_of(value)
            for value in (
                *private(total, "value"),
                *private(received, "count", "sum"),
                *private(sent, "count", "sum"),
                *private(fine, "sum"),
                *private(coarse, "sum"),
                *private(fine, "buckets")[0],
                *private(coarse, "buckets")[0],
            )
        ]
        if None in found:
            return None
        return found, *private(fine, "upper_bounds"), *private(coarse, "upper_bounds")


_Cells = tuple[Sequence[Cell], Sequence[float], Sequence[float]]


def method_label(method: str) -> str:
    """Return what a series names a method by.

    A client may send any of some thirty, and each would be series of every route.
    """
    return method if method in _METHODS else "other"


def _direct(cells: Sequence[Cell], fine_bounds: Sequence[float], bounds: Sequence[float]) -> Count:
    """Return what adds to the values in place."""
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


def _ignore(seconds: float, received: int, sent: int) -> None:
    """Count nothing."""
    del seconds, received, sent
