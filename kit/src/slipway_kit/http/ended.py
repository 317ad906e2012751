"""A request that is over, as the log and the metrics want it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import structlog

from slipway_kit.http.request_metrics import NO_ROUTE, RequestMetrics
from slipway_kit.http.routes import UNMATCHED, runs_on_loop

log = structlog.get_logger("access")


class Ended(NamedTuple):
    """A request or WebSocket that is over."""

    method: str
    # The template with every prefix, never the path itself.
    route: str | None
    endpoint: Callable[..., Any] | None
    status: int
    seconds: float
    # Bytes of both bodies, as far as their headers tell.
    received: int
    sent: int
    request_id: str
    # The ids of its span in hexadecimal digits, where it has one.
    trace: tuple[str, str] | None

    @property
    def mode(self) -> str | None:
        """Where its route ran."""
        if self.endpoint is None:
            return None
        return "event loop" if runs_on_loop(self.endpoint) else "thread pool"

    def fields(self) -> dict[str, Any]:
        """Return what its line says beside what every line does."""
        return {
            "method": self.method,
            "route": self.route or UNMATCHED,
            "status": self.status,
            "ms": round(self.seconds * 1000, 2),
            "mode": self.mode,
        }

    def log(self) -> None:
        """Write the line as any other one."""
        log.info("request", **self.fields())


class Records:
    """What the requests of one app leave when they are over: each is counted and logged.

    `add` takes a record. It can be replaced until the app serves its first request.
    """

    def __init__(self, metrics: RequestMetrics) -> None:
        self.metrics = metrics
        self.add: Callable[[Ended], None] = self.count_and_log

    def count_and_log(self, ended: Ended) -> None:
        """Count a request and write its line at once."""
        handler = ended.route or NO_ROUTE
        count = self.metrics.of(method=ended.method, handler=handler, status=ended.status)
        count(ended.seconds, ended.received, ended.sent)
        ended.log()
