"""Access-log lines formatted directly, with one write for each event loop iteration.

structlog runs six processors and one system call for each line. Here the requests that ended in one
iteration are counted and written together. A killed process loses the lines of that iteration.
"""

import asyncio
import json
import os
import time
from collections.abc import Callable, Iterable
from contextvars import Context
from functools import lru_cache
from typing import Any

import structlog
from prometheus_client import CollectorRegistry

from slipway_kit.fast.guard import FastPath
from slipway_kit.http.records import NO_ROUTE, Count, FinishedRequest, Records
from slipway_kit.logs import setup as logs

# Combinations of method, route and status; clients can invent methods.
_MAX_CACHED = 4096
# Of a probe, which is not counted.
_SAMPLE = FinishedRequest("GET", "/livez", None, 200, 0.25, 0, 0, "sample", None)
_path = FastPath()
disable = _path.disable


def wanted(setup: logs.LogSetup) -> bool:
    """Whether logs are JSON, include level INFO, and have no processor that may change a line."""
    return setup.json and setup.level in {"DEBUG", "INFO"} and not setup.processors


def supported() -> bool:
    """Whether the configured structlog writes the same line as this module."""
    written: list[str] = []
    BatchedRecords(Records(CollectorRegistry()), write=written.append).write([_SAMPLE])
    ours, theirs = (json.loads(line) for line in (*written, Context().run(_logged)))
    return bool(ours.pop("time") and theirs.pop("time")) and bool(ours == theirs)


def enable(records: Records) -> None:
    """Count and write `records` in batches."""
    _path.replace(records, "add", BatchedRecords(records, write=logs.write).add)


class BatchedRecords:
    """Counts requests, and writes the lines that `Records` would as JSON."""

    def __init__(self, records: Records, *, write: Callable[[str], Any]) -> None:
        self._records, self._write = records, write
        self._kinds: dict[tuple[Any, ...], tuple[Count, str]] = {}
        self._pending: list[FinishedRequest] = []

    def add(self, ended: FinishedRequest) -> None:
        """Add a record; it is written at the end of the loop iteration."""
        if not self._pending:
            asyncio.get_running_loop().call_soon(self._flush)
        self._pending.append(ended)

    def _flush(self) -> None:
        pending, self._pending = self._pending, []
        self.write(pending)

    def write(self, records: Iterable[FinishedRequest]) -> None:
        """Count and write some records now."""
        seconds = time.time()
        now = f"{_second(int(seconds))}.{int(seconds % 1 * 1e6):06}Z"
        lines = []
        for ended in records:
            # Method, route, endpoint and status.
            kind = ended[:4]
            count, head = self._kinds.get(kind) or self._learn(kind, ended)
            count(ended.seconds, ended.received, ended.sent)
            trace = ended.trace
            ids = f', "trace_id": "{trace[0]}", "span_id": "{trace[1]}"' if trace else ""
            ms = f"{ended.seconds * 1000:.2f}"
            id_ = ended.request_id
            lines.append(f'{head}, "ms": {ms}, "request_id": "{id_}"{ids}, "time": "{now}"}}\n')
        self._write("".join(lines))

    def _learn(self, kind: tuple[Any, ...], ended: FinishedRequest) -> tuple[Count, str]:
        """Cache what requests of one kind share: their series and the start of their line."""
        fields = ended.fields()
        del fields["ms"]
        line = {"event": "request", **fields, "level": "info", "pid": os.getpid()}
        count = self._records.of(
            method=ended.method, handler=ended.route or NO_ROUTE, status=ended.status
        )
        if len(self._kinds) >= _MAX_CACHED:
            self._kinds.clear()
        found = self._kinds[kind] = (count, json.dumps(line)[:-1])
        return found


@lru_cache(maxsize=1)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def _logged() -> str:
    """Return the line that structlog would write for the sample."""
    structlog.contextvars.bind_contextvars(request_id=_SAMPLE.request_id)
    event: Any = {"event": "request", **_SAMPLE.fields()}
    for processor in structlog.get_config()["processors"]:
        event = processor(None, "info", event)
    return str(event)
