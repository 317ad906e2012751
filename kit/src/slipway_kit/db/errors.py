"""What a database out of reach means to a client."""

from slipway_kit.errors import DeadlineExceeded, Overloaded, Unavailable


class DatabaseUnavailable(Unavailable):
    """The database is down, out of reach, or has no connection left for this request."""

    detail = "The database is not available; try again soon."


class DatabaseBusy(DatabaseUnavailable, Overloaded):
    """So many wait for a connection of the pool that one more would wait for too long."""

    detail = "Too many requests wait for the database; try again soon."


class StatementTimeout(DeadlineExceeded):
    """A query ran longer than DATABASE_STATEMENT_TIMEOUT_MS allows."""

    detail = "The database took too long to answer."
