"""Database errors with an HTTP meaning."""

from http import HTTPStatus

from slipway_kit.errors import DeadlineExceeded, Overloaded, ServiceError, Unavailable


class DatabaseUnavailable(Unavailable):
    """The database is down or unreachable, or has no free connection for this request."""

    detail = "The database is not available; try again soon."


class TransactionConflict(DatabaseUnavailable):
    """A serialization failure, a deadlock or a lock timeout: the same again may succeed."""

    detail = "Other requests use the same data at this moment; try again soon."


class StalePlan(DatabaseUnavailable):
    """A cached plan does not fit the schema any more; the next one does."""

    detail = "The database was just changed; try again."


class FailedTransaction(Exception):
    """A statement of the transaction failed and its error was caught: a bug of the caller."""

    def __str__(self) -> str:
        """Say what to do."""
        return (
            "a statement of this transaction failed, and nothing of it can be committed: let its"
            " error through, or run the statement in session.begin_nested()"
        )


class DatabaseBusy(DatabaseUnavailable, Overloaded):
    """The queueing delay for a connection of the pool would be too long."""

    detail = "Too many requests are waiting for the database; try again soon."


class StatementTimeout(DeadlineExceeded):
    """A statement ran longer than DATABASE_STATEMENT_TIMEOUT_MS."""

    detail = "The database took too long to answer."


class InvalidValue(ServiceError):
    """A value that PostgreSQL or its driver cannot take; the field's type should refuse it."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    detail = "The database cannot take a value of the request."
