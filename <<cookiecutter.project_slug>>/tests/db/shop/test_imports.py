import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal

import pytest
import stamina
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.features.shop import imports
from app.features.shop.schemas import GameIn
from slipway_kit.db.errors import DatabaseUnavailable
from slipway_kit.db.sessions import Database

pytestmark = pytest.mark.anyio


def games(numbers: range, price: int = 1) -> list[GameIn]:
    return [GameIn(name=f"game {number}", price=Decimal(price)) for number in numbers]


async def stored(database: Database) -> dict[str, int]:
    async with database.reading() as session:
        rows = await session.execute(text("SELECT name, price FROM games"))
        return {row.name: int(row.price) for row in rows}


async def test_two_imports_of_the_same_games_in_opposite_order_both_succeed(
    database: Database,
) -> None:
    numbers = range(imports.ROWS_PER_TRANSACTION)
    for _ in range(3):
        await asyncio.gather(
            imports.store(database, games(numbers)),
            imports.store(database, games(numbers[::-1])),
        )
    assert len(await stored(database)) == len(numbers)


async def test_of_one_name_the_last_row_wins(database: Database) -> None:
    await imports.store(database, [*games(range(3)), *games(range(2), 2), *games(range(1), 3)])
    assert await stored(database) == {"game 0": 3, "game 1": 2, "game 2": 1}


class Restarting(Database):
    """A database that is away for the first transactions."""

    def __init__(self, real: Database, *, away: int) -> None:
        self._real, self.away = real, away

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        if self.away:
            self.away -= 1
            raise DatabaseUnavailable
        async with self._real.transaction() as session:
            yield session


async def test_an_import_waits_for_a_database_that_is_away(database: Database) -> None:
    restarting = Restarting(database, away=3)
    with stamina.set_testing(True, attempts=100, cap=True):
        await imports.store(restarting, games(range(3)))
    assert restarting.away == 0
    assert len(await stored(database)) == 3


async def test_an_import_fails_when_the_database_stays_away(database: Database) -> None:
    with stamina.set_testing(True, attempts=3, cap=True), pytest.raises(DatabaseUnavailable):
        await imports.store(Restarting(database, away=3), games(range(3)))
    assert await stored(database) == {}


async def test_an_import_is_stored_in_short_transactions(database: Database) -> None:
    too_dear = GameIn.model_construct(name="dear", price=Decimal(-1), in_stock=True)
    size = imports.ROWS_PER_TRANSACTION
    with pytest.raises(Exception, match="ck_games_price_positive"):
        await imports.store(database, [*games(range(size + 1)), too_dear])
    # The first transaction is over when the second one fails.
    assert len(await stored(database)) == size
    assert database.connections_in_use == 0
