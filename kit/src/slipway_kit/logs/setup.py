"""Log lines on standard output: JSON objects for machines or aligned text for people."""

import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TextIO, cast

import structlog
from opentelemetry import trace
from structlog.typing import EventDict, Processor

from slipway_kit.logs.stream import LogStream


def configure(
    *, level: str, json: bool, traces: bool = False, processors: Sequence[Processor] = ()
) -> None:
    """Send every line of this process, ours and the libraries', to standard output.

    With `traces` a line that belongs to a trace says to which. `processors` are asked last before
    a line is rendered. Tracebacks are text without local variables, which may hold secrets.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        _add_pid,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.StackInfoRenderer(),
        *processors,
    ]
    if traces:
        shared.insert(0, _add_trace)
    render = _as_json() if json else _as_text()
    structlog.configure(
        processors=[*shared, *render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=_stream()),
        cache_logger_on_first_use=False,
    )
    foreign: list[Processor] = [*shared, structlog.stdlib.add_logger_name]
    handler = logging.StreamHandler(_stream())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=foreign,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    pass_on("uvicorn", "uvicorn.error", "gunicorn.error")
    # A request has one line, ours; uvicorn asks whether anybody listens before it writes another.
    access = logging.getLogger("uvicorn.access")
    access.handlers, access.propagate = [], False
    # It says which selector it uses.
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)


@dataclass(frozen=True)
class LogSetup:
    """How a process logs; it can be sent to the processes that compute for a worker."""

    level: str
    json: bool
    traces: bool
    processors: tuple[Processor, ...] = ()

    def apply(self) -> None:
        """Send every line of this process to standard output."""
        configure(level=self.level, json=self.json, traces=self.traces, processors=self.processors)


def write(lines: str) -> None:
    """Write whole lines that are rendered already."""
    stream = _stream()
    stream.write(lines)
    stream.flush()


def _stream() -> TextIO:
    """Return standard output, in the form that holds up nobody; a terminal's reader is there."""
    stream: TextIO = sys.stdout
    if stream is not sys.__stdout__ or stream.isatty():
        return stream
    return cast("TextIO", _log_stream(stream.fileno()))


@cache
def _log_stream(descriptor: int) -> LogStream:
    return LogStream(descriptor)


def pass_on(*names: str) -> None:
    """Leave the lines of these loggers to the root logger's handler alone."""
    for logger in map(logging.getLogger, names):
        logger.handlers = []
        logger.setLevel(logging.NOTSET)
        logger.propagate = True


def _as_json() -> list[Processor]:
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]


def _as_text() -> list[Processor]:
    plain = structlog.dev.plain_traceback
    return [structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty(), exception_formatter=plain)]


def _add_trace(_: object, __: str, event: EventDict) -> EventDict:
    """Lead from a line to its trace; the span may be a request's that is over."""
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = trace.format_trace_id(context.trace_id)
        event["span_id"] = trace.format_span_id(context.span_id)
    return event


def _add_pid(_: object, __: str, event: EventDict) -> EventDict:
    """Tell the workers of one pod apart."""
    event["pid"] = os.getpid()
    return event
