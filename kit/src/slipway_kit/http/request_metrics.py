"""The instrumentator's metrics of a request, for what observes requests.

prometheus-fastapi-instrumentator makes the metrics, defines them and counts. Its own middleware
would match each route again and measure what `Observe` has measured already.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_fastapi_instrumentator.metrics import Info, default

_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
# What the instrumentator calls requests that no route matched.
NO_ROUTE = "none"
# In place of a method; what the instrumentator measures is HTTP.
WEBSOCKET = "WEBSOCKET"
# Asked by every kubelet every few seconds, and no work.
PROBES = frozenset({"/livez", "/readyz", "/startupz", "/health"})
# Labels of which counters are kept; the routes and statuses of a service are fewer.
_MOST_KEPT = 4096

# Takes seconds, bytes received and bytes sent, as the length headers say.
Count = Callable[[float, int, int], None]


class RequestMetrics:
    """Counts requests in five families of series, which `registry` gets.

    `counter` returns what counts the requests of one method, status class and handler. It can be
    replaced until the first request is counted.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        count = default(registry=registry)
        assert count is not None  # noqa: S101 (so it is for a registry that has them already)
        self.instrumented: Callable[[Info], None] = count
        self.counter: Callable[[str, str, str], Count] = self.count_by_instrumentator
        self._known: dict[tuple[str, str, str], Count] = {}

    def of(self, *, method: str, handler: str, status: int) -> Count:
        """Return what counts a request of this method, handler and status."""
        if method == WEBSOCKET or handler in PROBES:
            return _ignore
        labels = (method_label(method), f"{status // 100}xx", handler)
        found = self._known.get(labels)
        if found is None:
            if len(self._known) >= _MOST_KEPT:
                self._known.clear()
            found = self._known[labels] = self.counter(*labels)
        return found

    def count_by_instrumentator(self, method: str, status: str, handler: str) -> Count:
        """Return what has the instrumentator's own function count."""

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
            self.instrumented(info)

        return count


def method_label(method: str) -> str:
    """Return what a series names a method by.

    A client may send any of some thirty, and each would be series of every route.
    """
    return method if method in _METHODS else "other"


def _ignore(seconds: float, received: int, sent: int) -> None:
    """Count nothing."""
    del seconds, received, sent
