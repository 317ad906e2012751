import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest
from fastapi import FastAPI
from sqlalchemy import text

from app.features.shop.schemas import GameOut
from slipway_kit.db.sessions import Database
from slipway_kit.testing import asgi

pytestmark = pytest.mark.anyio


class Slow:
    """Says a word, thinks for ever, and looks at the connections meanwhile."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.connections_in_use: int | None = None
        self.closed = False

    async def advise(self, game: GameOut) -> AsyncGenerator[str, None]:
        try:
            yield game.name
            self.connections_in_use = self._database.connections_in_use
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)  # as one that has a connection to close
            self.closed = True


async def test_advice_holds_no_connection_and_who_leaves_it_leaves_nothing_behind(
    app: FastAPI,
) -> None:
    async with app.router.lifespan_context(app):
        database: Database = app.state.resources.database
        async with database.transaction() as session:
            await session.execute(text("INSERT INTO games (name, price) VALUES ('Catan', 1)"))
        assistant = Slow(database)
        app.state.shop = replace(app.state.shop, assistant=assistant)
        tasks = asyncio.all_tasks()
        told = await asgi.read_some(app, "/api/v1/games/1/advice", messages=1)
        assert told == [b'data: {"text":"Catan"}\n\n']
        for _ in range(10):
            await asyncio.sleep(0)
        assert assistant.closed
        assert assistant.connections_in_use == 0
        assert database.connections_in_use == 0
        assert asyncio.all_tasks() <= tasks
