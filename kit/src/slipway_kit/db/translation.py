"""What the errors of PostgreSQL and of its driver mean to a request."""

from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError

from slipway_kit.db.errors import (
    DatabaseUnavailable,
    FailedTransaction,
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
_FAILED = "a statement failed"


def translate_errors(engine: Engine) -> None:
    """Raise errors of this library, and let nobody commit a transaction that has failed."""
    event.listen(engine, "handle_error", _translate)
    event.listen(engine, "commit", _refuse_failed)


def _translate(context: ExceptionContext) -> None:
    """Translate an error of the driver.

    Only driver errors come here, so an `OSError` or `TimeoutError` is the network's, not a route's.
    """
    error = context.original_exception
    # After a failed ping the pool opens a new connection.
    if context.is_pre_ping or not isinstance(error, Exception):
        return
    if context.connection is not None and context.connection.in_transaction():
        _info(context.connection)[_FAILED] = True
    sqlstate = getattr(error, "sqlstate", None) or ""
    if sqlstate == _QUERY_CANCELLED:
        raise StatementTimeout from error
    if sqlstate in _CONFLICTS:
        raise TransactionConflict from error
    if isinstance(error, context.dialect.loaded_dbapi.InvalidCachedStatementError):
        raise StalePlan from error
    if isinstance(error, OSError) or sqlstate.startswith(_GONE):
        context.is_disconnect = True
    if context.is_disconnect:
        raise DatabaseUnavailable from error


def _refuse_failed(connection: Connection) -> None:
    """Raise `FailedTransaction` when PostgreSQL would answer COMMIT with ROLLBACK."""
    if not _info(connection).pop(_FAILED, False):
        return
    try:
        # It is refused, unless the failed statement was in a savepoint.
        connection.exec_driver_sql("SELECT 1")
    except DBAPIError as error:
        raise FailedTransaction from error


def _info(connection: Connection) -> dict[Any, Any]:
    """Return what is kept with a connection; of a lost one nothing is."""
    return {} if connection.closed or connection.invalidated else connection.info
