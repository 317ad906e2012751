"""Every query on games; functions take the session and leave its transaction alone."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncScalarResult, AsyncSession

from app.features.shop.models import Game
from app.features.shop.schemas import GameIn
from app.kit.errors import Conflict, NotFound

ROWS_PER_CHUNK = 200


class GameNotFound(NotFound):
    """No game has this id."""

    def __init__(self, game_id: int) -> None:
        super().__init__(f"There is no game {game_id}.")


class NameTaken(Conflict):
    """Another game has this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"There is already a game named {name!r}.")


async def page(session: AsyncSession, *, after: int, limit: int) -> Sequence[Game]:
    """Return up to `limit` games whose id is greater than `after`."""
    query = select(Game).where(Game.id > after).order_by(Game.id).limit(limit)
    return (await session.scalars(query)).all()


async def every(session: AsyncSession) -> AsyncScalarResult[Game]:
    """Open a server-side cursor on the catalogue; its partitions hold `ROWS_PER_CHUNK` games."""
    query = select(Game).order_by(Game.id)
    return await session.stream_scalars(query.execution_options(yield_per=ROWS_PER_CHUNK))


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


@contextmanager
def _one_name_each(name: str) -> Iterator[None]:
    try:
        yield
    except IntegrityError as error:
        if getattr(error.driver_exception, "constraint_name", None) == "uq_games_name":
            raise NameTaken(name) from error
        raise
