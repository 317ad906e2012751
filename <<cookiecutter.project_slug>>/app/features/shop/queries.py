"""Every query on games; functions take a session and never commit or roll back."""

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from typing import Any

import stamina
from sqlalchemy import Integer, bindparam, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.features.shop.models import Game
from app.features.shop.schemas import GameIn, Stock, Summary
from slipway_kit.db import Database, DatabaseUnavailable
from slipway_kit.errors import Conflict, NotFound

ROWS_PER_CHUNK = 200
# A client waits for the next part of a stream no longer than for an answer.
RETRY_SECONDS = 10.0
# Built once: building this query takes longer than running it.
PAGE = (
    select(Game.id, Game.name, Game.price, Game.in_stock)
    .where(Game.id > bindparam("after"))
    .order_by(Game.id)
    .limit(bindparam("limit", type_=Integer))
)


class GameNotFound(NotFound):
    """No game has this id."""

    def __init__(self, game_id: int) -> None:
        super().__init__(f"There is no game {game_id}.")


class NameTaken(Conflict):
    """Another game has this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"There is already a game named {name!r}.")


async def page(database: Database, *, after: int, limit: int) -> list[dict[str, Any]]:
    """Return up to `limit` games whose id is greater than `after`, each as a dict.

    This is the hottest route and only reads, so it makes no ORM objects.
    """
    return await database.rows(PAGE, {"after": after, "limit": limit})


async def pages(database: Database) -> AsyncGenerator[list[dict[str, Any]]]:
    """Yield the whole catalogue by id, up to `ROWS_PER_CHUNK` games at a time.

    Each page is a query of its own: whoever reads slowly holds no connection meanwhile. When the
    database is busy, later pages are asked for again for `RETRY_SECONDS`.
    """
    games = await page(database, after=0, limit=ROWS_PER_CHUNK)
    while games:
        yield games
        async for attempt in stamina.retry_context(
            on=DatabaseUnavailable, attempts=None, timeout=RETRY_SECONDS, wait_max=0.25
        ):
            with attempt:
                games = await page(database, after=games[-1]["id"], limit=ROWS_PER_CHUNK)


async def get(session: AsyncSession, game_id: int) -> Game:
    """Return one game or raise `GameNotFound`."""
    game = await session.get(Game, game_id)
    if game is None:
        raise GameNotFound(game_id)
    return game


async def add(session: AsyncSession, new: GameIn) -> Game:
    """Add a game or raise `NameTaken`."""
    statement = insert(Game).values(**new.model_dump()).returning(Game)
    with _one_name_each(new.name):
        return (await session.scalars(statement)).one()


async def replace(session: AsyncSession, game_id: int, new: GameIn) -> Game:
    """Overwrite a game or raise `GameNotFound` or `NameTaken`."""
    statement = update(Game).where(Game.id == game_id).values(**new.model_dump()).returning(Game)
    with _one_name_each(new.name):
        game = (await session.scalars(statement)).one_or_none()
    if game is None:
        raise GameNotFound(game_id)
    return game


async def remove(session: AsyncSession, game_id: int) -> None:
    """Delete a game or raise `GameNotFound`."""
    statement = delete(Game).where(Game.id == game_id).returning(Game.id)
    if (await session.scalar(statement)) is None:
        raise GameNotFound(game_id)


async def store(session: AsyncSession, games: Sequence[GameIn]) -> None:
    """Upsert games by name; of duplicates the last one wins."""
    # Sorted: concurrent imports lock rows in the same order, so they cannot deadlock.
    rows = [game.model_dump() for game in sorted(games, key=lambda game: game.name)]
    statement = postgresql.insert(Game)
    new = statement.excluded
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=[Game.name], set_={"price": new.price, "in_stock": new.in_stock}
        ),
        rows,
    )


async def stock(session: AsyncSession, ids: Sequence[int]) -> dict[int, Stock]:
    """Look up many games in one query; unknown ids are left out."""
    rows = await session.execute(select(Game.id, Game.price, Game.in_stock).where(Game.id.in_(ids)))
    return {row.id: Stock.model_validate(row) for row in rows}


async def offers(session: AsyncSession, *, budget: Decimal, limit: int) -> Sequence[Game]:
    """Return the newest `limit` games in stock that cost no more than `budget`."""
    query = select(Game).where(Game.in_stock, Game.price <= budget)
    return (await session.scalars(query.order_by(Game.id.desc()).limit(limit))).all()


async def summary(session: AsyncSession, *, as_of: datetime) -> Summary:
    """Return the summary; this reads the whole table."""
    query = select(
        func.count().label("games"),
        func.count().filter(Game.in_stock).label("in_stock"),
        func.coalesce(func.sum(Game.price).filter(Game.in_stock), 0).label("value"),
    ).select_from(Game)
    row = (await session.execute(query)).one()
    return Summary(games=row.games, in_stock=row.in_stock, value=row.value, as_of=as_of)


@contextmanager
def _one_name_each(name: str) -> Iterator[None]:
    try:
        yield
    except IntegrityError as error:
        if getattr(error.driver_exception, "constraint_name", None) == "uq_games_name":
            raise NameTaken(name) from error
        raise
