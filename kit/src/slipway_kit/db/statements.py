"""A span for each SQL statement, by OpenTelemetry's stable semantic conventions.

OpenTelemetry's own instrumentation refuses SQLAlchemy 2.1, patches the whole process, never ends
the span of a statement whose error another listener translates, and copies the server's message,
which may contain values, into the span.
"""

import re
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

from opentelemetry import trace
from opentelemetry.semconv.attributes import db_attributes, error_attributes, server_attributes
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.engine.interfaces import DBAPICursor

from slipway_kit.db.address import Address
from slipway_kit.tracing.provider import recording

# The instrumentation scope.
SCOPE_NAME = "slipway_kit.db"
# The text of a longer statement, such as a bulk insert, is cut.
MAX_TEXT = 4096
# Statements whose span name and attributes are cached.
_MAX_CACHED = 256
_SYSTEM = "postgresql"
_FIRST_WORD = re.compile(r"[A-Za-z]+")


def trace_database(dialect: Dialect, address: Address) -> None:
    """Make a span for each statement that `dialect` sends; do nothing while tracing is off.

    Spans hold the text with placeholders, never the values. SQLAlchemy's events would cost time for
    every statement, traced or not.
    """
    if not recording():
        return
    tracer = trace.get_tracer(SCOPE_NAME)
    describe = lru_cache(maxsize=_MAX_CACHED)(partial(_describe, address))
    initialize = dialect.initialize

    def initialize_and_trace(connection: Connection) -> None:
        initialize(connection)  # which asks for the server's version, and more
        for name in ("do_execute", "do_executemany", "do_execute_no_params"):
            setattr(dialect, name, _traced(getattr(dialect, name), tracer, describe))

    dialect.initialize = initialize_and_trace  # type: ignore[method-assign]


def _describe(address: Address, statement: str) -> tuple[str, dict[str, str | int]]:
    """Return the name and the attributes of the span."""
    word = _FIRST_WORD.match(statement.lstrip())
    operation = word[0].upper() if word else _SYSTEM
    namespace = {db_attributes.DB_NAMESPACE: address.name} if address.name else {}
    return f"{operation} {address.name or ''}".rstrip(), {
        db_attributes.DB_SYSTEM_NAME: _SYSTEM,
        server_attributes.SERVER_ADDRESS: address.host or "localhost",
        server_attributes.SERVER_PORT: address.port,
        **namespace,
        db_attributes.DB_OPERATION_NAME: operation,
        db_attributes.DB_QUERY_TEXT: statement,
    }


def _traced(
    send: Callable[..., None],
    tracer: Tracer,
    describe: Callable[[str], tuple[str, dict[str, str | int]]],
) -> Callable[..., None]:
    def traced_send(cursor: DBAPICursor, statement: str, *rest: Any, **context: Any) -> None:
        # Asking the span of the request is faster than the SDK's sampler, which takes 20 us.
        if not getattr(trace.get_current_span(), "recorded", True):
            send(cursor, statement, *rest, **context)
            return
        name, attributes = describe(statement[:MAX_TEXT])
        span = tracer.start_span(name, kind=SpanKind.CLIENT, attributes=attributes)
        try:
            send(cursor, statement, *rest, **context)
        except BaseException as error:
            _fail(span, error)
            raise
        finally:
            span.end()

    return traced_send


def _fail(span: Span, error: BaseException) -> None:
    state = getattr(error, "sqlstate", None)
    if state:
        span.set_attribute(db_attributes.DB_RESPONSE_STATUS_CODE, state)
    span.set_attribute(error_attributes.ERROR_TYPE, state or type(error).__qualname__)
    span.set_status(StatusCode.ERROR)
