import asyncio
from collections.abc import Iterator

import pytest
from sqlalchemy import event, text

from app.features.shop import queries, stock
from slipway_kit.db.sessions import Database

pytestmark = pytest.mark.anyio


@pytest.fixture
def statements(database: Database) -> Iterator[list[str]]:
    """The statements that the database is sent."""
    sent: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        sent.append(statement)

    event.listen(database.engine.sync_engine, "before_cursor_execute", note)
    yield sent
    event.remove(database.engine.sync_engine, "before_cursor_execute", note)


async def test_look_ups_that_arrive_together_share_one_query(
    database: Database, statements: list[str]
) -> None:
    async with database.transaction() as session:
        await session.execute(
            text("INSERT INTO games (name, price) SELECT n, n FROM generate_series(1, 50) n")
        )
    statements.clear()
    batcher = stock.batcher(database)
    async with batcher.running():
        asked = [*range(1, 51), *range(1, 11), 99]
        found = await asyncio.gather(
            *(stock.look_up(batcher, game_id) for game_id in asked), return_exceptions=True
        )
    assert [getattr(each, "id", None) for each in found[:-1]] == asked[:-1]
    assert isinstance(found[-1], queries.GameNotFound)
    assert len(statements) == 1
    assert database.connections_in_use == 0
