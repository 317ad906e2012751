from collections.abc import AsyncIterator

import pytest

from slipway_kit.db.engine import open_database
from slipway_kit.db.sessions import Database
from slipway_kit.db.settings import DatabaseSettings


@pytest.fixture
async def database(database_settings: DatabaseSettings) -> AsyncIterator[Database]:
    """A pool of two connections on the migrated database."""
    settings = database_settings.model_copy(update={"pool_size": 2})
    async with open_database(settings) as database:
        yield database
