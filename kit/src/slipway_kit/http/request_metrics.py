"""Request metrics, defined and counted by prometheus-fastapi-instrumentator.

Its middleware is not used: it would match the route and measure the time a second time.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_fastapi_instrumentator.metrics import Info, default

_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
# The instrumentator's handler of requests that no route matched.
NO_ROUTE = "none"
# In place of a method; the instrumentator measures HTTP only.
WEBSOCKET = "WEBSOCKET"
# Not measured.
PROBES = frozenset({"/livez", "/readyz", "/startupz", "/health"})
# Cached counters; the label sets of a service are fewer.
_MAX_CACHED = 4096

# Takes seconds, bytes received and bytes sent, as the length headers say.
Count = Callable[[float, int, int], None]


class RequestMetrics:
    """Counts requests in five metrics, which it registers in `registry`.

    `counter` returns the function that counts the requests of one method, status class and
    handler. It can be replaced until the first request is counted.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        count = default(registry=registry)
        assert count is not None  # noqa: S101 (it is None for a registry that has them already)
        self.instrumented: Callable[[Info], None] = count
        self.counter: Callable[[str, str, str], Count] = self.count_by_instrumentator
        self._known: dict[tuple[str, str, str], Count] = {}

    def of(self, *, method: str, handler: str, status: int) -> Count:
        """Return the function that counts a request of this method, handler and status."""
        if method == WEBSOCKET or handler in PROBES:
            return _ignore
        labels = (method_label(method), f"{status // 100}xx", handler)
        found = self._known.get(labels)
        if found is None:
            if len(self._known) >= _MAX_CACHED:
                self._known.clear()
            found = self._known[labels] = self.counter(*labels)
        return found

    def count_by_instrumentator(self, method: str, status: str, handler: str) -> Count:
        """Return a function that counts by the instrumentator's own."""

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
    """Return the label of a method; rare ones share one, to bound the number of series."""
    return method if method in _METHODS else "other"


def _ignore(seconds: float, received: int, sent: int) -> None:
    """Count nothing."""
    del seconds, received, sent
