"""Database errors with an HTTP meaning."""

from slipway_kit.errors import DeadlineExceeded, Overloaded, Unavailable


class DatabaseUnavailable(Unavailable):
    """The database is down or unreachable, or has no free connection for this request."""

    detail = "The database is not available; try again soon."


class DatabaseBusy(DatabaseUnavailable, Overloaded):
    """The queueing delay for a connection of the pool would be too long."""

    detail = "Too many requests are waiting for the database; try again soon."


class StatementTimeout(DeadlineExceeded):
    """A statement ran longer than DATABASE_STATEMENT_TIMEOUT_MS."""

    detail = "The database took too long to answer."
