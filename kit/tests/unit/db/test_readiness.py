"""Whether the schema fits the code."""

import pytest

from slipway_kit.db import migrations
from slipway_kit.db.migrations import SchemaCheck, Versions
from slipway_kit.db.settings import DatabaseSettings

pytestmark = pytest.mark.anyio

VERSIONS = Versions(heads=frozenset({"3"}), known=frozenset({"1", "2", "3"}))


class FakeDatabase:
    """Answers with the revisions `found`."""

    def __init__(self, *found: str) -> None:
        self.found = frozenset(found)

    async def applied(self, settings: DatabaseSettings) -> frozenset[str]:
        return self.found


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> FakeDatabase:
    found = FakeDatabase()
    monkeypatch.setattr(migrations, "applied_versions", found.applied)
    return found


@pytest.mark.parametrize(
    ("found", "obstacle"),
    [
        ((), "The database has no revision; this code needs 3."),
        (("2",), "The database is at revision 2, older than 3."),
        (("3",), None),
        (("4",), None),
    ],
)
async def test_an_empty_or_older_schema_is_an_obstacle_and_an_equal_or_newer_one_is_none(
    found: tuple[str, ...], obstacle: str | None, database: FakeDatabase
) -> None:
    database.found = frozenset(found)
    assert await SchemaCheck(DatabaseSettings(), VERSIONS)(None) == obstacle


async def test_a_service_without_migrations_fits_any_database() -> None:
    assert Versions(frozenset(), frozenset()).obstacle(frozenset()) is None


async def test_once_it_fitted_any_answer_is_enough(database: FakeDatabase) -> None:
    check = SchemaCheck(DatabaseSettings(), VERSIONS)
    database.found = frozenset({"3"})
    assert await check(None) is None
    database.found = frozenset()
    assert await check(None) is None
