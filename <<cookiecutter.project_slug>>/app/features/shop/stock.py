"""Price and stock of single games, in batched look-ups."""

from collections.abc import Sequence

from app.features.shop import queries
from app.features.shop.schemas import Stock
from slipway_kit.concurrency import Batcher
from slipway_kit.db import Database


def batcher(database: Database) -> Batcher[int, Stock]:
    """Return the batcher that turns concurrent look-ups into one query."""

    async def load(ids: Sequence[int]) -> dict[int, Stock]:
        async with database.reading() as session:
            return await queries.stock(session, ids)

    return Batcher("stock", load)


async def look_up(stock: Batcher[int, Stock], game_id: int) -> Stock:
    """Return price and stock of a game or raise `GameNotFound`."""
    found = await stock.get(game_id)
    if found is None:
        raise queries.GameNotFound(game_id)
    return found
