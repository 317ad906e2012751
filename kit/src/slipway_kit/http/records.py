"""The log line and the metrics of finished requests, and /metrics of a single process.

Metrics are defined and counted by prometheus-fastapi-instrumentator. Its middleware is not used: it
would match the route and measure the time a second time.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, NamedTuple

import structlog
from fastapi import FastAPI
from prometheus_client import REGISTRY, CollectorRegistry, start_http_server, values
from prometheus_fastapi_instrumentator.metrics import Info, default

from slipway_kit.config.server import ServerSettings
from slipway_kit.http.probes import PROBES
from slipway_kit.http.routes import UNMATCHED, runs_on_loop
from slipway_kit.runtime import runtime_of

_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
# The instrumentator's handler of requests that no route matched.
NO_ROUTE = "none"
# In place of a method; the instrumentator measures HTTP only.
WEBSOCKET = "WEBSOCKET"
# The status of a client that left before its answer; it is a label of its own.
CLIENT_GONE = 499

# Takes seconds, bytes received and bytes sent, as the length headers say.
Count = Callable[[float, int, int], None]

log = structlog.get_logger("access")


class FinishedRequest(NamedTuple):
    """A finished request or WebSocket."""

    method: str
    # The template with every prefix, never the path itself.
    route: str | None
    endpoint: Callable[..., Any] | None
    status: int
    seconds: float
    # Bytes of both bodies, by their content-length headers.
    received: int
    sent: int
    request_id: str
    # Trace id and span id in hexadecimal, if it was traced.
    trace: tuple[str, str] | None

    def fields(self) -> dict[str, Any]:
        """Return the fields of its log line."""
        mode = None
        if self.endpoint is not None:
            mode = "event loop" if runs_on_loop(self.endpoint) else "thread pool"
        return {
            "method": self.method,
            "route": self.route or UNMATCHED,
            "status": self.status,
            "ms": round(self.seconds * 1000, 2),
            "mode": mode,
        }


class Records:
    """Logs the finished requests of one app, and counts them in five metrics of `registry`.

    `add` and `counter` can be replaced until the app serves its first request.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        count = default(registry=registry)
        assert count is not None  # noqa: S101 (it is None for a registry that has them already)
        self.instrumented: Callable[[Info], None] = count

    def add(self, ended: FinishedRequest) -> None:
        """Count a request and write its log line."""
        handler = ended.route or NO_ROUTE
        count = self.of(method=ended.method, handler=handler, status=ended.status)
        count(ended.seconds, ended.received, ended.sent)
        log.info("request", **ended.fields())

    def of(self, *, method: str, handler: str, status: int) -> Count:
        """Return the function that counts a request of this method, handler and status."""
        if method == WEBSOCKET or handler in PROBES:
            return _ignore
        label = "499" if status == CLIENT_GONE else f"{status // 100}xx"
        return self.counter(method_label(method), label, handler)

    def counter(self, method: str, status: str, handler: str) -> Count:
        """Return a function that counts requests with these labels, by the instrumentator's own."""

        def count(seconds: float, received: int, sent: int) -> None:
            info: Any = SimpleNamespace(
                request=SimpleNamespace(headers={"Content-Length": received}),
                response=SimpleNamespace(headers={"Content-Length": sent}),
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


def _ignore(*_: object) -> None:
    """Count nothing."""


@asynccontextmanager
async def open_metrics(app: FastAPI, server: ServerSettings) -> AsyncIterator[None]:
    """Serve /metrics from a thread, unless a master does it for all workers or the port is 0."""
    if server.metrics_port == 0 or values.ValueClass._multiprocess:  # noqa: SLF001 (no public way to ask)
        yield
        return
    both = CollectorRegistry()
    both.register(REGISTRY)
    both.register(runtime_of(app).get(CollectorRegistry))
    httpd, thread = start_http_server(server.metrics_port, addr=server.host, registry=both)
    try:
        yield
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()
