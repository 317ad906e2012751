"""Log lines on standard output, as JSON or as text."""

import logging
import os
import sys
from dataclasses import dataclass
from functools import cache
from typing import TextIO, cast

import structlog
from opentelemetry import trace
from structlog.typing import EventDict, Processor

from slipway_kit.logs.stream import LogStream

# What a console shows of them on level DEBUG only, for a person cannot use it.
_QUIET_LOGGERS = ("alembic", "gunicorn.error", "slipway_kit", "uvicorn.error")
_QUIET_EVENTS = frozenset({"fast paths", "migration started", "phase closed", "phase opened"})
# Requests take most lines: one column has what is asked of them.
_EVENT_COLUMN = 44


@dataclass(frozen=True)
class LogSetup:
    """How a process logs, picklable for child processes.

    With `traces` lines have trace ids. `processors` run last before a line is rendered.
    """

    level: str
    json: bool
    traces: bool = False
    processors: tuple[Processor, ...] = ()

    def apply(self) -> None:
        """Send every log line of this process, ours and the libraries', to standard output."""
        shared, render = self._shared(), self._render()
        quiet = not self.json and self.level == "INFO"
        structlog.configure(
            processors=[*([_drop_quiet] if quiet else []), *shared, *render],
            wrapper_class=structlog.make_filtering_bound_logger(self.level),
            logger_factory=structlog.WriteLoggerFactory(file=_stream()),
            cache_logger_on_first_use=False,
        )
        handler = logging.StreamHandler(_stream())
        handler.setFormatter(
            structlog.stdlib.ProcessorFormatter(
                foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
                processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
            )
        )
        root = logging.getLogger()
        root.handlers[:] = [handler]
        root.setLevel(self.level)
        propagate_to_root("uvicorn", "uvicorn.error", "gunicorn.error")
        for name in _QUIET_LOGGERS:
            logging.getLogger(name).setLevel(logging.WARNING if quiet else logging.NOTSET)
        # Requests have a line of our own; without a handler uvicorn writes none.
        access = logging.getLogger("uvicorn.access")
        access.handlers, access.propagate = [], False
        # They log a selector at the start, and what outbound calls send.
        for name in ("asyncio", "httpx", "httpcore"):
            logging.getLogger(name).setLevel(logging.WARNING)
        logging.getLogger("uvicorn.error").addFilter(_of_no_websocket)
        logging.captureWarnings(capture=True)

    def _shared(self) -> list[Processor]:
        return [
            *([_add_trace] if self.traces else []),
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            _add_pid,
            structlog.processors.TimeStamper(
                fmt="iso" if self.json else "%H:%M:%S", utc=self.json, key="time"
            ),
            structlog.processors.StackInfoRenderer(),
            *self.processors,
        ]

    def _render(self) -> list[Processor]:
        # Both leave out local variables of a traceback, which may hold secrets.
        if self.json:
            return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        console = structlog.dev.ConsoleRenderer(
            colors=sys.stdout.isatty(),
            exception_formatter=structlog.dev.plain_traceback,
            pad_event_to=_EVENT_COLUMN,
            sort_keys=False,
            timestamp_key="time",
        )
        return [_shorten, console]


def write(lines: str) -> None:
    """Write rendered lines."""
    stream = _stream()
    stream.write(lines)
    stream.flush()


def _stream() -> TextIO:
    """Return standard output, non-blocking unless it is a terminal."""
    stream: TextIO = sys.stdout
    if stream is not sys.__stdout__ or stream.isatty():
        return stream
    return cast("TextIO", _log_stream(stream.fileno()))


_log_stream = cache(LogStream)


def propagate_to_root(*names: str) -> None:
    """Leave the lines of these loggers to the root logger."""
    for logger in map(logging.getLogger, names):
        logger.handlers = []
        logger.propagate = True


def _drop_quiet(_: object, level: str, event: EventDict) -> EventDict:
    if level == "info" and event["event"] in _QUIET_EVENTS:
        raise structlog.DropEvent
    return event


def _shorten(_: object, __: str, event: EventDict) -> EventDict:
    """Leave out what is the same in every line, and say a request in one column."""
    del event["pid"]
    if event["event"] == "request":
        request = [str(event.pop(name)) for name in ("status", "method", "route")]
        event["event"] = " ".join(request)
        if event.get("mode") is None:
            event.pop("mode", None)
    return event


def _of_no_websocket(record: logging.LogRecord) -> bool:
    """Drop lines of uvicorn and websockets on handshakes, which show the query, and on messages."""
    return record.levelno >= logging.WARNING or "websockets" not in record.pathname


def _add_trace(_: object, __: str, event: EventDict) -> EventDict:
    """Add the trace id and the span id, also of a span that has ended."""
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = trace.format_trace_id(context.trace_id)
        event["span_id"] = trace.format_span_id(context.span_id)
    return event


def _add_pid(_: object, __: str, event: EventDict) -> EventDict:
    event["pid"] = os.getpid()
    return event
