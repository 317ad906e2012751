from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from slipway_kit.db.errors import DatabaseUnavailable, StatementTimeout, TransactionConflict
from slipway_kit.db.translation import _translate


def failure(error: BaseException, *, pre_ping: bool = False) -> Any:
    """What SQLAlchemy tells of an error of the driver."""
    return SimpleNamespace(
        original_exception=error,
        sqlalchemy_exception=None,
        is_pre_ping=pre_ping,
        is_disconnect=False,
        connection=None,
        dialect=create_async_engine("postgresql+asyncpg://").dialect,
    )


def with_sqlstate(sqlstate: str) -> Exception:
    error = Exception("from the server")
    error.sqlstate = sqlstate  # type: ignore[attr-defined]  # as asyncpg's errors have it
    return error


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError(),
        TimeoutError(),
        with_sqlstate("57P01"),
        with_sqlstate("57P03"),
        with_sqlstate("08006"),
        with_sqlstate("53300"),
        with_sqlstate("25006"),
    ],
)
def test_an_error_of_the_network_or_of_a_leaving_server_drops_the_connection(
    error: Exception,
) -> None:
    context = failure(error)
    with pytest.raises(DatabaseUnavailable) as translated:
        _translate(context)
    assert translated.value.__cause__ is error
    assert context.is_disconnect is True


def test_a_cancelled_statement_keeps_its_connection() -> None:
    context = failure(with_sqlstate("57014"))
    with pytest.raises(StatementTimeout):
        _translate(context)
    assert context.is_disconnect is False


@pytest.mark.parametrize("sqlstate", ["40001", "40P01", "55P03"])
def test_what_the_same_again_may_cure_keeps_its_connection(sqlstate: str) -> None:
    context = failure(with_sqlstate(sqlstate))
    with pytest.raises(TransactionConflict):
        _translate(context)
    assert context.is_disconnect is False


@pytest.mark.parametrize(
    "context",
    [
        failure(with_sqlstate("23505")),
        failure(ValueError()),
        failure(ConnectionResetError(), pre_ping=True),
        failure(KeyboardInterrupt()),
    ],
)
def test_other_errors_are_left_alone(context: Any) -> None:
    _translate(context)
    assert context.is_disconnect is False
