"""PostgreSQL: engine, connection pool, sessions, statement spans and migrations."""

from slipway_kit.db.engine import open_database
from slipway_kit.db.errors import (
    DatabaseBusy,
    DatabaseUnavailable,
    InvalidValue,
    StalePlan,
    StatementTimeout,
    TransactionConflict,
)
from slipway_kit.db.migrations import run_environment
from slipway_kit.db.model import Model
from slipway_kit.db.sessions import Database, ReadSessionDep, SessionDep
from slipway_kit.db.settings import DatabaseSettings

__all__ = [
    "Database",
    "DatabaseBusy",
    "DatabaseSettings",
    "DatabaseUnavailable",
    "InvalidValue",
    "Model",
    "ReadSessionDep",
    "SessionDep",
    "StalePlan",
    "StatementTimeout",
    "TransactionConflict",
    "open_database",
    "run_environment",
]
