"""What the errors of PostgreSQL and of its driver mean to a request."""

from collections.abc import Callable
from functools import partial
from typing import Any

import structlog
from sqlalchemy import Engine, event
from sqlalchemy.engine import Dialect, ExceptionContext
from sqlalchemy.pool import PoolProxiedConnection

from slipway_kit.db.errors import (
    DatabaseUnavailable,
    FailedTransaction,
    InvalidValue,
    StalePlan,
    StatementTimeout,
    TransactionConflict,
)

_QUERY_CANCELLED = "57014"
# Shutting down, crashed, starting up; connection failures; too many connections; and a server that
# became a standby: a new connection finds the one that took its place.
_GONE = ("57P01", "57P02", "57P03", "08", "53300", "25006")
# Serialization failure, deadlock, lock timeout.
_CONFLICTS = ("40001", "40P01", "55P03")
# Data exceptions, before the wire too, and a value too long for its index.
_INVALID_VALUE = ("22", "54000")
_DIVISION_BY_ZERO = "22012"
_FAILED = "a statement failed"

log = structlog.get_logger()


def translate_errors(engine: Engine) -> None:
    """Raise errors of this library, and let nobody commit a transaction that has failed."""
    event.listen(engine, "handle_error", _translate)
    # Not SQLAlchemy's event `commit`: with one, every statement looks for listeners of its own.
    dialect = engine.dialect
    dialect.do_commit = partial(_commit, dialect, dialect.do_commit)  # type: ignore[method-assign]


def _translate(context: ExceptionContext) -> None:
    """Translate an error of the driver.

    Only driver errors come here, so an `OSError` or `TimeoutError` is the network's, not a route's.
    """
    error = context.original_exception
    # After a failed ping the pool opens a new connection.
    if context.is_pre_ping or not isinstance(error, Exception):
        return
    connection = context.connection
    # A lost connection is not committed.
    if connection is not None and connection.in_transaction() and not connection.invalidated:
        connection.info[_FAILED] = True
    hide_values(context)
    sqlstate = getattr(error, "sqlstate", None) or ""
    if sqlstate == _QUERY_CANCELLED:
        raise StatementTimeout from error
    if sqlstate in _CONFLICTS:
        raise TransactionConflict from error
    if isinstance(error, context.dialect.loaded_dbapi.InvalidCachedStatementError):
        raise StalePlan from error
    if sqlstate.startswith(_INVALID_VALUE) and sqlstate != _DIVISION_BY_ZERO:
        # The type of the field should have refused it.
        log.warning("invalid value", error=str(error))
        raise InvalidValue from error
    if isinstance(error, OSError) or sqlstate.startswith(_GONE):
        context.is_disconnect = True
    if context.is_disconnect:
        raise DatabaseUnavailable from error


def hide_values(context: ExceptionContext) -> None:
    """Leave of an error its type, its SQLSTATE and names of the schema.

    Messages of PostgreSQL and of its driver quote rows and arguments, and whatever shows an error
    would show them: log, spans, and errors that have it as their cause.
    """
    wrapper, error = context.sqlalchemy_exception, context.original_exception
    driver: Any = getattr(error, "orig", None) or error
    sqlstate = getattr(driver, "sqlstate", None)
    # Without one it is the client's side of the protocol, or a value of the wrong type.
    if wrapper is None or (driver is not error and sqlstate is None):
        return
    found = {
        name: getattr(driver, f"{name}_name", None) for name in ("table", "column", "constraint")
    }
    names = [f"{name} {known}" for name, known in found.items() if known]
    said = " ".join([type(driver).__name__, sqlstate or "", *names]).rstrip()
    for each in (driver, error, wrapper):
        each.args = (said,)
    driver.detail = driver.hint = driver.__cause__ = driver.__context__ = None


def _commit(
    dialect: Dialect, commit: Callable[[Any], None], connection: PoolProxiedConnection
) -> None:
    """Raise `FailedTransaction` when PostgreSQL would answer COMMIT with ROLLBACK."""
    if connection.info.pop(_FAILED, False):
        cursor = connection.cursor()
        try:
            # It is refused, unless the failed statement was in a savepoint.
            cursor.execute("SELECT 1")
        except dialect.loaded_dbapi.Error as error:
            raise FailedTransaction from error
        finally:
            cursor.close()
    commit(connection)
