"""Log lines on standard output, as JSON or as text."""

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
    """Send every log line of this process, ours and the libraries', to standard output.

    With `traces` lines have trace ids. `processors` run last before a line is rendered. Tracebacks
    are without local variables, which may hold secrets.
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
    propagate_to_root("uvicorn", "uvicorn.error", "gunicorn.error")
    # Requests have a line of our own; without a handler uvicorn writes none.
    access = logging.getLogger("uvicorn.access")
    access.handlers, access.propagate = [], False
    # It logs its selector at the start.
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)


@dataclass(frozen=True)
class LogSetup:
    """The arguments of `configure`, picklable for child processes."""

    level: str
    json: bool
    traces: bool
    processors: tuple[Processor, ...] = ()

    def apply(self) -> None:
        """Configure the logs of this process."""
        configure(level=self.level, json=self.json, traces=self.traces, processors=self.processors)


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


@cache
def _log_stream(descriptor: int) -> LogStream:
    return LogStream(descriptor)


def propagate_to_root(*names: str) -> None:
    """Leave the lines of these loggers to the root logger."""
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
    """Add the trace id and the span id, also of a span that has ended."""
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = trace.format_trace_id(context.trace_id)
        event["span_id"] = trace.format_span_id(context.span_id)
    return event


def _add_pid(_: object, __: str, event: EventDict) -> EventDict:
    """Add the process id, which differs between the workers of a pod."""
    event["pid"] = os.getpid()
    return event
