"""A request that is over, as the log and the metrics want it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import structlog

from slipway_kit.http.dependencies import runs_on_loop
from slipway_kit.http.routes import UNMATCHED

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

    def log(self) -> None:
        """Write the line as any other one."""
        log.info(
            "request",
            method=self.method,
            route=self.route or UNMATCHED,
            status=self.status,
            ms=round(self.seconds * 1000, 2),
            mode=self.mode,
        )
