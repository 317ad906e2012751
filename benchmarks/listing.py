"""A list of twenty games: bare, and as most would write it, beside the shop's own route."""

import os
from typing import Annotated
from urllib.parse import parse_qs, urlsplit

from fastapi import APIRouter, Depends, FastAPI
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from app.features.shop.models import Game
from app.features.shop.queries import PAGE
from app.features.shop.routes import After, Limit
from app.features.shop.schemas import GameOut, GamePage
from app.kit.database import SessionDep

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
    app = FastAPI()
    made: list[AsyncEngine] = []

    async def connected() -> AsyncConnection:
        if not made:
            made.append(_engine())
        return made[0].connect()

    @app.get("/api/v1/games")
    async def list_games(
        connecting: Annotated[AsyncConnection, Depends(connected)],
        after: After = 0,
        limit: Limit = 50,
    ) -> GamePage:
        async with connecting as connection:
            found = await connection.execute(PAGE, {"after": after, "limit": limit + 1})
            columns = tuple(found.keys())
            rows = [dict(zip(columns, row, strict=True)) for row in found.all()]
        return GamePage.of(rows, limit=limit)

    return app


def _engine() -> AsyncEngine:
    folder = parse_qs(urlsplit(os.environ["DATABASE_URL"]).query)["host"][0]
    return create_async_engine(
        f"postgresql+asyncpg://postgres@/postgres?host={folder}",
        isolation_level="AUTOCOMMIT",
        pool_size=10,
        max_overflow=0,
    )
