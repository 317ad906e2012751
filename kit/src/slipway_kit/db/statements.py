"""A span for each SQL statement, in the names of OpenTelemetry's stable conventions.

OpenTelemetry's own instrumentation refuses SQLAlchemy 2.1, patches it for the whole process, never
ends the span of a statement whose error another listener translates, and copies the server's
message, which may quote a value, into the span.
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
from slipway_kit.tracing.origin import Origin
from slipway_kit.tracing.provider import recording

# Instrumentation scope: who makes these spans.
SCOPE_NAME = "slipway_kit.db"
# Of a statement that inserts many rows, the end says nothing new.
MAX_TEXT = 4096
# Statements that are asked again and again.
_MOST_KNOWN = 256
_SYSTEM = "postgresql"
_FIRST_WORD = re.compile(r"[A-Za-z]+")
# Within the first connection's questions for the server's version, which are nobody's statements.
_initializing: ContextVar[bool] = ContextVar("initializing", default=False)


def trace_database(dialect: Dialect, address: Address, *, origin: type[Origin] = Origin) -> None:
    """Make a span of each statement that `dialect` sends; nothing without traces.

    It holds the text with placeholders, never the values. SQLAlchemy has events for this, which
    take time of every connection and statement, traced or not.
    """
    if not recording():
        return
    traced = _Statements(address, origin)
    for name in ("do_execute", "do_executemany", "do_execute_no_params"):
        setattr(dialect, name, traced.around(getattr(dialect, name)))
    _leave_out_initialization(dialect)


class _Statements:
    """Makes the spans of one engine."""

    def __init__(self, address: Address, origin: type[Origin]) -> None:
        self._origin = origin(trace.get_tracer_provider(), SCOPE_NAME, kind=SpanKind.CLIENT)
        self._told = lru_cache(maxsize=_MOST_KNOWN)(self._tell)
        self._namespace = address.name or ""
        self._attributes: dict[str, str | int] = {
            db_attributes.DB_SYSTEM_NAME: _SYSTEM,
            server_attributes.SERVER_ADDRESS: address.host or "localhost",
            server_attributes.SERVER_PORT: address.port,
        }
        if address.name:
            self._attributes[db_attributes.DB_NAMESPACE] = address.name

    def around(self, send: Callable[..., None]) -> Callable[..., None]:
        """Return `send`, whose second argument is a statement, with a span around it."""

        def sends(cursor: DBAPICursor, statement: str, *rest: Any, **context: Any) -> None:
            # A request's own span knows that it is not recorded; the SDK takes 20 us to say so.
            if _initializing.get() or not getattr(trace.get_current_span(), "recorded", True):
                send(cursor, statement, *rest, **context)
                return
            # Those that insert many rows are long, and each is another.
            told = self._told if len(statement) <= MAX_TEXT else self._tell
            span = self._origin.begin_here(*told(statement))
            try:
                send(cursor, statement, *rest, **context)
            except BaseException as error:
                _fail(span, error)
                raise
            finally:
                span.end()

        return sends

    def _tell(self, statement: str) -> tuple[str, dict[str, str | int]]:
        """Return the name and the attributes of its span."""
        word = _FIRST_WORD.match(statement.lstrip())
        operation = word[0].upper() if word else _SYSTEM
        return f"{operation} {self._namespace}".rstrip(), {
            **self._attributes,
            db_attributes.DB_OPERATION_NAME: operation,
            db_attributes.DB_QUERY_TEXT: statement[:MAX_TEXT],
        }


def _leave_out_initialization(dialect: Dialect) -> None:
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
