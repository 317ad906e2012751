"""The log line and the metrics of a finished request."""

from collections.abc import Callable
from typing import Any, NamedTuple

import structlog

from slipway_kit.http.request_metrics import NO_ROUTE, RequestMetrics
from slipway_kit.http.routes import UNMATCHED, runs_on_loop

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

    @property
    def mode(self) -> str | None:
        """Where its route ran: on the event loop or in a thread."""
        if self.endpoint is None:
            return None
        return "event loop" if runs_on_loop(self.endpoint) else "thread pool"

    def fields(self) -> dict[str, Any]:
        """Return the fields of its log line."""
        return {
            "method": self.method,
            "route": self.route or UNMATCHED,
            "status": self.status,
            "ms": round(self.seconds * 1000, 2),
            "mode": self.mode,
        }

    def log(self) -> None:
        """Write its log line."""
        log.info("request", **self.fields())


class Records:
    """Counts and logs the finished requests of one app, by `add`.

    `add` can be replaced until the app serves its first request.
    """

    def __init__(self, metrics: RequestMetrics) -> None:
        self.metrics = metrics
        self.add: Callable[[FinishedRequest], None] = self.count_and_log

    def count_and_log(self, ended: FinishedRequest) -> None:
        """Count a request and write its log line."""
        handler = ended.route or NO_ROUTE
        count = self.metrics.of(method=ended.method, handler=handler, status=ended.status)
        count(ended.seconds, ended.received, ended.sent)
        ended.log()
