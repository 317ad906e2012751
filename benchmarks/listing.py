"""A list of twenty games: bare, and as most would write it, beside the shop's own route."""

import os
from collections.abc import Awaitable, Callable
from typing import Annotated, Any
from urllib.parse import parse_qs, urlsplit

from fastapi import APIRouter, Depends, FastAPI
from sqlalchemy import Result, select
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.util import greenlet_spawn

from app.features.shop.models import Game
from app.features.shop.queries import PAGE
from app.features.shop.routes import After, Limit
from app.features.shop.schemas import GameOut, GamePage
from slipway_kit.db.sessions import SessionDep

router = APIRouter()


@router.get("/naive")
async def list_games_naively(session: SessionDep, after: After = 0, limit: Limit = 50) -> GamePage:
    """List games as objects in a transaction, as most would: the control of the measurement."""
    query = select(Game).where(Game.id > after).order_by(Game.id).limit(limit + 1)
    found = (await session.scalars(query)).all()
    games = [GameOut.model_validate(game) for game in found[:limit]]
    return GamePage(games=games, next=games[-1].id if len(found) > limit else None)


def bare() -> FastAPI:
    """Return the shop's route on FastAPI and nothing else."""
    return _bare(_rows)


def bare_in_one_step() -> FastAPI:
    """Return the same with rows read in the way of the service."""
    return _bare(_rows_in_one_step)


def _bare(
    rows: Callable[[AsyncEngine, dict[str, int]], Awaitable[list[dict[str, Any]]]],
) -> FastAPI:
    app = FastAPI()
    made: list[AsyncEngine] = []

    async def engine() -> AsyncEngine:
        if not made:
            made.append(_engine())
        return made[0]

    @app.get("/api/v1/games")
    async def list_games(
        engine: Annotated[AsyncEngine, Depends(engine)], after: After = 0, limit: Limit = 50
    ) -> GamePage:
        found = await rows(engine, {"after": after, "limit": limit + 1})
        return GamePage.of(found, limit=limit)

    return app


async def _rows(engine: AsyncEngine, parameters: dict[str, int]) -> list[dict[str, Any]]:
    async with engine.connect() as connection:
        return _dicts(await connection.execute(PAGE, parameters))


async def _rows_in_one_step(
    engine: AsyncEngine, parameters: dict[str, int]
) -> list[dict[str, Any]]:
    def read() -> list[dict[str, Any]]:
        with engine.sync_engine.connect() as connection:
            return _dicts(connection.execute(PAGE, parameters))

    return await greenlet_spawn(read)


def _dicts(found: Result[Any]) -> list[dict[str, Any]]:
    columns = tuple(found.keys())
    return [dict(zip(columns, row, strict=True)) for row in found.all()]


def _engine() -> AsyncEngine:
    folder = parse_qs(urlsplit(os.environ["DATABASE_URL"]).query)["host"][0]
    return create_async_engine(
        f"postgresql+asyncpg://postgres@/postgres?host={folder}",
        isolation_level="AUTOCOMMIT",
        pool_size=10,
        max_overflow=0,
    )
