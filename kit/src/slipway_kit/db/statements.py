"""A span for each SQL statement, by OpenTelemetry's stable semantic conventions.

OpenTelemetry's own instrumentation refuses SQLAlchemy 2.1, patches the whole process, never ends
the span of a statement whose error another listener translates, and copies the server's message,
which may contain values, into the span.
"""

import re
from collections.abc import Callable
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

from opentelemetry import trace
from opentelemetry.semconv.attributes import db_attributes, error_attributes, server_attributes
from opentelemetry.trace import Span, SpanKind, StatusCode
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.engine.interfaces import DBAPICursor

from slipway_kit.db.address import Address
from slipway_kit.tracing.provider import recording
from slipway_kit.tracing.span_factory import SpanFactory

# The instrumentation scope.
SCOPE_NAME = "slipway_kit.db"
# The text of a longer statement, such as a bulk insert, is cut.
MAX_TEXT = 4096
# Statements whose span name and attributes are cached.
_MAX_CACHED = 256
_SYSTEM = "postgresql"
_FIRST_WORD = re.compile(r"[A-Za-z]+")
# Set while SQLAlchemy asks the first connection for the server's version.
_initializing: ContextVar[bool] = ContextVar("initializing", default=False)


def trace_database(
    dialect: Dialect, address: Address, *, span_factory: type[SpanFactory] = SpanFactory
) -> None:
    """Make a span for each statement that `dialect` sends; do nothing while tracing is off.

    Spans hold the text with placeholders, never the values. SQLAlchemy's events would cost time for
    every statement, traced or not.
    """
    if not recording():
        return
    traced = _Statements(address, span_factory)
    for name in ("do_execute", "do_executemany", "do_execute_no_params"):
        setattr(dialect, name, traced.around(getattr(dialect, name)))
    _skip_initialization(dialect)


class _Statements:
    """Makes the statement spans of one engine."""

    def __init__(self, address: Address, span_factory: type[SpanFactory]) -> None:
        self._factory = span_factory(trace.get_tracer_provider(), SCOPE_NAME, kind=SpanKind.CLIENT)
        self._describe_cached = lru_cache(maxsize=_MAX_CACHED)(self._describe)
        self._namespace = address.name or ""
        self._attributes: dict[str, str | int] = {
            db_attributes.DB_SYSTEM_NAME: _SYSTEM,
            server_attributes.SERVER_ADDRESS: address.host or "localhost",
            server_attributes.SERVER_PORT: address.port,
        }
        if address.name:
            self._attributes[db_attributes.DB_NAMESPACE] = address.name

    def around(self, send: Callable[..., None]) -> Callable[..., None]:
        """Wrap `send`, whose second argument is a statement, in a span."""

        def traced_send(cursor: DBAPICursor, statement: str, *rest: Any, **context: Any) -> None:
            # Asking the span of the request is faster than the SDK's sampler, which takes 20 us.
            if _initializing.get() or not getattr(trace.get_current_span(), "recorded", True):
                send(cursor, statement, *rest, **context)
                return
            # Long statements are bulk inserts, which rarely repeat.
            describe = self._describe_cached if len(statement) <= MAX_TEXT else self._describe
            span = self._factory.begin_here(*describe(statement))
            try:
                send(cursor, statement, *rest, **context)
            except BaseException as error:
                _fail(span, error)
                raise
            finally:
                span.end()

        return traced_send

    def _describe(self, statement: str) -> tuple[str, dict[str, str | int]]:
        """Return the name and the attributes of the span."""
        word = _FIRST_WORD.match(statement.lstrip())
        operation = word[0].upper() if word else _SYSTEM
        return f"{operation} {self._namespace}".rstrip(), {
            **self._attributes,
            db_attributes.DB_OPERATION_NAME: operation,
            db_attributes.DB_QUERY_TEXT: statement[:MAX_TEXT],
        }


def _skip_initialization(dialect: Dialect) -> None:
    initializes = dialect.initialize

    def initialize(connection: Connection) -> None:
        token = _initializing.set(True)
        try:
            initializes(connection)
        finally:
            _initializing.reset(token)

    dialect.initialize = initialize  # type: ignore[method-assign]


def _fail(span: Span, error: BaseException) -> None:
    state = getattr(error, "sqlstate", None)
    if state:
        span.set_attribute(db_attributes.DB_RESPONSE_STATUS_CODE, state)
    span.set_attribute(error_attributes.ERROR_TYPE, state or type(error).__qualname__)
    span.set_status(StatusCode.ERROR)
