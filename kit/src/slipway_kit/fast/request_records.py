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
from typing import Any

import structlog
from prometheus_client import CollectorRegistry

from slipway_kit.http.records import NO_ROUTE, Count, FinishedRequest, Records
from slipway_kit.logs import setup as logs

# Combinations of method, route and status; clients can invent methods.
_MAX_CACHED = 4096
# Modules whose processors are known; a custom processor may change any line.
_KNOWN = ("structlog.", "slipway_kit.logs.")
# Of a probe, which is not counted.
_SAMPLE = FinishedRequest("GET", "/livez", None, 200, 0.25, 0, 0, "sample", None)


def wanted() -> bool:
    """Whether logs are JSON and include level INFO."""
    found = structlog.get_config()
    shown = [structlog.make_filtering_bound_logger(level) for level in ("DEBUG", "INFO")]
    renders = found["processors"][-1:]
    as_json = any(isinstance(each, structlog.processors.JSONRenderer) for each in renders)
    return as_json and found["wrapper_class"] in shown


def supported() -> bool:
    """Whether the configured structlog writes the same line as this module."""
    processors = structlog.get_config()["processors"]
    if not all(_module(each).startswith(_KNOWN) for each in processors):
        return False
    written: list[str] = []
    by_hand = BatchedRecords(Records(CollectorRegistry()), write=written.append)
    by_hand.keep(_SAMPLE)
    by_hand.flush()
    ours, theirs = (json.loads(line) for line in (*written, Context().run(_logged, processors)))
    return bool(ours.pop("time") and theirs.pop("time")) and bool(ours == theirs)


def enable(records: Records) -> None:
    """Count and write `records` in batches."""
    records.add = BatchedRecords(records, write=logs.write).add


def disable(records: Records) -> None:
    """Count and write `records` one by one."""
    records.add = records.count_and_log


class BatchedRecords:
    """Counts requests, and writes the lines that `Records` would as JSON."""

    def __init__(
        self,
        records: Records,
        *,
        write: Callable[[str], Any],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._records, self._write, self._clock = records, write, clock
        self._kinds: dict[tuple[Any, ...], tuple[Count, str]] = {}
        self._pending: list[FinishedRequest] = []
        self._second, self._second_text = -1.0, ""

    def add(self, ended: FinishedRequest) -> None:
        """Add a record; it is written at the end of the loop iteration."""
        if not self._pending:
            asyncio.get_running_loop().call_soon(self.flush)
        self._pending.append(ended)

    def keep(self, ended: FinishedRequest) -> None:
        """Add a record for the next `flush`."""
        self._pending.append(ended)

    def flush(self) -> None:
        """Count and write all pending records."""
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

    def _now(self) -> str:
        second, part = divmod(self._clock(), 1)
        if second != self._second:
            self._second = second
            self._second_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._second_text}.{int(part * 1e6):06}Z"


def _module(processor: object) -> str:
    """Return the module of a function, or of the class of a callable object."""
    return getattr(processor, "__module__", "") + "."


def _logged(processors: Iterable[Any]) -> str:
    """Return the line that structlog would write for the sample."""
    structlog.contextvars.bind_contextvars(request_id=_SAMPLE.request_id)
    event: Any = {"event": "request", **_SAMPLE.fields()}
    for processor in processors:
        event = processor(None, "info", event)
    return str(event)
