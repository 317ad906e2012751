from collections.abc import AsyncIterator

import pytest

from app.kit.database import Database, DatabaseSettings, open_database


@pytest.fixture
async def database(database_settings: DatabaseSettings) -> AsyncIterator[Database]:
    """A pool of two connections on the migrated database."""
    update = {"pool_size": 2, "pool_timeout_seconds": 0.1}
    async with open_database(database_settings.model_copy(update=update)) as database:
        yield database
