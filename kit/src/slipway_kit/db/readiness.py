"""The readiness check of the database schema."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from slipway_kit.config.group import Group
from slipway_kit.db.migrations import Versions, applied_versions
from slipway_kit.db.settings import DatabaseSettings

NO_ANSWER = "The database does not answer."


class ReadinessSettings(Group):
    """What a worker needs to be ready."""

    model_config = SettingsConfigDict(env_prefix="READINESS_")

    requires_database: bool = Field(
        default=False, description="leave the Service while the database does not answer"
    )


class SchemaCheck:
    """Asks whether the schema fits this code, on a connection outside the pool.

    Once it did, an answer of any kind is enough: what is migrated later is newer.
    """

    def __init__(self, settings: DatabaseSettings, versions: Versions) -> None:
        self._settings, self._versions, self._fits = settings, versions, False

    async def __call__(self, _: object) -> str | None:
        """Return why the schema does not fit, or `None`; raise if the database does not answer."""
        found = await applied_versions(self._settings)
        obstacle = None if self._fits else self._versions.obstacle(found)
        self._fits = obstacle is None
        return obstacle
