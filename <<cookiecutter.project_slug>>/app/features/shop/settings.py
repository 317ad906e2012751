"""What can be set about the shop."""

from typing import Self

from pydantic import Field, HttpUrl, model_validator
from pydantic_settings import SettingsConfigDict

from slipway_kit.config import Group


class Settings(Group):
    """The limits of the shop, and the services that it calls."""

    model_config = SettingsConfigDict(env_prefix="SHOP_")

    import_queue_size: int = Field(
        default=4,
        ge=1,
        le=1000,
        description="catalogue files that may wait per worker, 7 MiB each at most",
    )
    import_workers: int = Field(
        default=1, ge=1, le=10, description="files stored at once per worker, a connection each"
    )
    summary_fresh_seconds: float = Field(
        default=10, gt=0, le=3600, description="seconds until the summary is counted anew"
    )
    summary_max_age_seconds: float = Field(
        default=300, gt=0, le=86_400, description="seconds after which an old summary is not shown"
    )
    assistant_url: HttpUrl | None = Field(
        default=None, description="answers a game with advice as text; default: the house's own"
    )
    announce_url: HttpUrl | None = Field(
        default=None, description="is told of each new game; default: only the log is"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.summary_fresh_seconds >= self.summary_max_age_seconds:
            raise ValueError(
                "SHOP_SUMMARY_FRESH_SECONDS is not below SHOP_SUMMARY_MAX_AGE_SECONDS;"
                " no old summary could be shown while a new one is counted"
            )
        return self
