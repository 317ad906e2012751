"""A span for each SQL statement, in the names of OpenTelemetry's stable conventions.

OpenTelemetry's own instrumentation refuses SQLAlchemy 2.1, patches it for the whole process, never
ends the span of a statement whose error another listener translates, and copies the server's
message, which may quote a value, into the span.
"""

import re
from typing import Any

from opentelemetry import trace
from opentelemetry.semconv.attributes import db_attributes, error_attributes, server_attributes
from opentelemetry.trace import SpanKind, StatusCode
from sqlalchemy import event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.ext.asyncio import AsyncEngine

from .dsn import Address
from .tracing import recording

# Of a statement that inserts many rows, the end says nothing new.
MAX_TEXT = 4096
_SYSTEM = "postgresql"
_FIRST_WORD = re.compile(r"[A-Za-z]+")


def trace_database(engine: AsyncEngine, address: Address) -> None:
    """Make a span of each statement of `engine`; nothing without traces.

    It holds the text with placeholders, never the values. A listener to errors that raises must be
    added later: SQLAlchemy asks no further one.
    """
    if not recording():
        return
    spans = _Statements(address)
    event.listen(engine.sync_engine, "before_cursor_execute", spans.begin)
    event.listen(engine.sync_engine, "after_cursor_execute", spans.end)
    event.listen(engine.sync_engine, "handle_error", spans.fail)


class _Statements:
    """The listeners of one engine; a span waits in SQLAlchemy's context of the execution."""

    def __init__(self, address: Address) -> None:
        self._tracer = trace.get_tracer(__name__)
        self._namespace = address.name or ""
        self._attributes: dict[str, str | int] = {
            db_attributes.DB_SYSTEM_NAME: _SYSTEM,
            server_attributes.SERVER_ADDRESS: address.host or "localhost",
            server_attributes.SERVER_PORT: address.port,
        }
        if address.name:
            self._attributes[db_attributes.DB_NAMESPACE] = address.name

    def begin(
        self, _conn: Any, _cursor: Any, statement: str, _parameters: Any, context: Any, _many: bool
    ) -> None:
        word = _FIRST_WORD.match(statement.lstrip())
        operation = word[0].upper() if word else _SYSTEM
        context.span = self._tracer.start_span(
            f"{operation} {self._namespace}".rstrip(),
            kind=SpanKind.CLIENT,
            attributes={
                **self._attributes,
                db_attributes.DB_OPERATION_NAME: operation,
                db_attributes.DB_QUERY_TEXT: statement[:MAX_TEXT],
            },
        )

    def end(
        self, _conn: Any, _cursor: Any, _statement: str, _parameters: Any, context: Any, _many: bool
    ) -> None:
        context.span.end()

    def fail(self, failure: ExceptionContext) -> None:
        span = getattr(failure.execution_context, "span", None)
        if span is None:
            return
        error = failure.original_exception
        state = getattr(error, "sqlstate", None)
        if state:
            span.set_attribute(db_attributes.DB_RESPONSE_STATUS_CODE, state)
        span.set_attribute(error_attributes.ERROR_TYPE, state or type(error).__qualname__)
        span.set_status(StatusCode.ERROR)
        span.end()
