"""Settings of the shop."""

from typing import Self

from pydantic import Field, HttpUrl, model_validator
from pydantic_settings import SettingsConfigDict

from slipway_kit.config import Group


class Settings(Group):
    """Limits of the shop, and the services that it calls."""

    model_config = SettingsConfigDict(env_prefix="SHOP_")

    import_queue_size: int = Field(
        default=4,
        ge=1,
        le=1000,
        description="catalogue files in the import queue, per worker, 7 MiB each at most",
    )
    import_workers: int = Field(
        default=1,
        ge=1,
        le=10,
        description="files imported concurrently per worker, one database connection each",
    )
    summary_fresh_seconds: float = Field(
        default=10, gt=0, le=3600, description="seconds until the summary is refreshed"
    )
    summary_max_age_seconds: float = Field(
        default=300, gt=0, le=86_400, description="seconds until the summary expires"
    )
    assistant_url: HttpUrl | None = Field(
        default=None,
        description="URL of the assistant, which answers a game with text; default: built in",
    )
    announce_url: HttpUrl | None = Field(
        default=None, description="URL that each new game is posted to; default: only logged"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.summary_fresh_seconds >= self.summary_max_age_seconds:
            raise ValueError(
                "SHOP_SUMMARY_FRESH_SECONDS is not below SHOP_SUMMARY_MAX_AGE_SECONDS;"
                " a stale summary could not be returned while it is refreshed"
            )
        return self
