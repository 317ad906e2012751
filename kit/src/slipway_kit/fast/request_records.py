"""What is left of a request when it is over: it is counted, and it is one line of the log.

Both are done at the end of the turn of the event loop in which requests ended, for all of them at
once: written one by one, the system call alone costs more than the line. A process that is killed
loses the records of that one turn.
"""

import asyncio
import json
import os
import time
from collections.abc import Callable
from typing import Any

import structlog

from slipway_kit.http.ended import Ended
from slipway_kit.http.request_metrics import NO_ROUTE, Count, RequestMetrics
from slipway_kit.http.routes import UNMATCHED

log = structlog.get_logger("access")
# Methods and statuses of each route; strangers can invent methods.
_MOST_KINDS = 4096


class Records:
    """Counts requests, and writes the lines that `Ended.log` would as JSON.

    Without `write` the lines are left to `Ended.log`.
    """

    def __init__(
        self,
        metrics: RequestMetrics,
        *,
        write: Callable[[str], Any] | None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._metrics, self._write, self._clock = metrics, write, clock
        self._kinds: dict[tuple[Any, ...], tuple[Count, str]] = {}
        self._pending: list[Ended] = []
        self._second, self._second_text = -1.0, ""

    def add(self, ended: Ended) -> None:
        """Take a record; it is written when the loop has turned."""
        if not self._pending:
            asyncio.get_running_loop().call_soon(self.flush)
        self._pending.append(ended)
        if self._write is None:
            ended.log()

    def flush(self) -> None:
        """Write what there is."""
        pending, self._pending = self._pending, []
        now = self._now()
        lines = []
        for ended in pending:
            # Method, route, endpoint and status.
            kind = ended[:4]
            count, head = self._kinds.get(kind) or self._learn(kind, ended)
            count(ended.seconds, ended.received, ended.sent)
            trace = ended.trace
            ids = f', "trace_id": "{trace[0]}", "span_id": "{trace[1]}"' if trace else ""
            ms = f"{ended.seconds * 1000:.2f}"
            id_ = ended.request_id
            lines.append(f'{head}, "ms": {ms}, "request_id": "{id_}"{ids}, "time": "{now}"}}\n')
        if self._write is not None:
            self._write("".join(lines))

    def _learn(self, kind: tuple[Any, ...], ended: Ended) -> tuple[Count, str]:
        """Look up once what all requests of a kind share: their series, and most of their line."""
        line = {
            "event": "request",
            "method": ended.method,
            "route": ended.route or UNMATCHED,
            "status": ended.status,
            "mode": ended.mode,
            "level": "info",
            "pid": os.getpid(),
        }
        count = self._metrics.of(
            method=ended.method, handler=ended.route or NO_ROUTE, status=ended.status
        )
        if len(self._kinds) >= _MOST_KINDS:
            self._kinds.clear()
        found = self._kinds[kind] = (count, json.dumps(line)[:-1])
        return found

    def _now(self) -> str:
        second, part = divmod(self._clock(), 1)
        if second != self._second:
            self._second = second
            self._second_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._second_text}.{int(part * 1e6):06}Z"
