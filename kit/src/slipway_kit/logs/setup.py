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
        structlog.configure(
            processors=[*shared, *render],
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
        # Requests have a line of our own; without a handler uvicorn writes none.
        access = logging.getLogger("uvicorn.access")
        access.handlers, access.propagate = [], False
        # It logs its selector at the start.
        logging.getLogger("asyncio").setLevel(logging.WARNING)
        logging.captureWarnings(capture=True)

    def _shared(self) -> list[Processor]:
        return [
            *([_add_trace] if self.traces else []),
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            _add_pid,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            structlog.processors.StackInfoRenderer(),
            *self.processors,
        ]

    def _render(self) -> list[Processor]:
        # Both leave out local variables of a traceback, which may hold secrets.
        if self.json:
            return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        plain = structlog.dev.plain_traceback
        colors = sys.stdout.isatty()
        return [structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain)]


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
        logger.setLevel(logging.NOTSET)
        logger.propagate = True


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
