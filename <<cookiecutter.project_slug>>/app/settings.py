"""Every setting of the service, read once when the process starts.

A group lives beside the code that it tunes; this module gathers the groups and checks them against
each other.
"""

import os
from importlib import import_module
from importlib.util import find_spec
from typing import Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny

from app.enabled import FEATURES
from slipway_kit.capacity.sums import Release, waiting
from slipway_kit.client.settings import HttpClientSettings
from slipway_kit.concurrency.offload import OffloadSettings
from slipway_kit.config.cgroup import CgroupLimits
from slipway_kit.config.group import Group, read, refuse_unknown
from slipway_kit.config.server import MIB, ServerSettings
from slipway_kit.db.settings import DatabaseSettings
from slipway_kit.errors import SettingsError
from slipway_kit.http.openapi import OpenAPISettings
from slipway_kit.http.probes import ReadinessSettings
from slipway_kit.server.watchdog import WatchdogSettings
from slipway_kit.tracing.settings import TracingSettings

F = TypeVar("F", bound=Group)

# In the order of the fields below.
GROUPS: tuple[type[Group], ...] = (
    ServerSettings,
    OpenAPISettings,
    DatabaseSettings,
    ReadinessSettings,
    OffloadSettings,
    WatchdogSettings,
    TracingSettings,
    HttpClientSettings,
)


def all_groups() -> tuple[type[Group], ...]:
    """Return every group there is, those of the features last."""
    return (*GROUPS, *_feature_groups())


def _feature_groups() -> list[type[Group]]:
    """Find the class `Settings` of each feature that has a module `settings`."""
    modules = [f"app.features.{feature}.settings" for feature in FEATURES]
    return [import_module(module).Settings for module in modules if find_spec(module)]


class Settings(BaseModel):
    """The whole configuration, frozen."""

    model_config = ConfigDict(frozen=True)

    server: ServerSettings = Field(default_factory=ServerSettings)
    openapi: OpenAPISettings = Field(default_factory=OpenAPISettings)
    database: DatabaseSettings = Field(default_factory=DatabaseSettings)
    readiness: ReadinessSettings = Field(default_factory=ReadinessSettings)
    offload: OffloadSettings = Field(default_factory=OffloadSettings)
    watchdog: WatchdogSettings = Field(default_factory=WatchdogSettings)
    tracing: TracingSettings = Field(default_factory=TracingSettings)
    http_client: HttpClientSettings = Field(default_factory=HttpClientSettings)
    features: tuple[SerializeAsAny[Group], ...] = Field(
        default_factory=lambda: tuple(group() for group in _feature_groups())
    )

    @classmethod
    def load(cls) -> Self:
        """Read the environment or raise `SettingsError` with a sentence for each problem."""
        groups = all_groups()
        found: list[Group] = []
        wrong: list[str] = []
        try:
            refuse_unknown(os.environ, groups)
        except SettingsError as error:
            wrong.append(str(error))
        for group in groups:
            try:
                found.append(read(group))
            except SettingsError as error:
                wrong.append(str(error))
        if wrong:
            raise SettingsError("\n".join(wrong))
        kit = dict(zip(cls.model_fields, found[: len(GROUPS)], strict=False))
        settings = cls.model_validate({**kit, "features": tuple(found[len(GROUPS) :])})
        settings.check()
        return settings

    def feature(self, group: type[F]) -> F:
        """Return the settings of a feature, by their class."""
        return next(found for found in self.features if isinstance(found, group))

    def check(self) -> None:
        """Raise `SettingsError` when groups contradict each other."""
        broken = [
            f"{limit}; {limit.change}."
            for limit in waiting(self.release(CgroupLimits()))
            if not limit.holds
        ]
        if self.server.production and self.database.echo:
            broken.append(
                "DATABASE_ECHO writes every statement to the log; unset it in production."
            )
        if broken:
            raise SettingsError("\n".join(broken))

    def workers(self, found: CgroupLimits) -> int:
        """Return how many workers a container with the limits `found` runs."""
        return self.server.workers(found, children_mib=self.offload.children_mib)

    def release(self, found: CgroupLimits) -> Release:
        """Return one pod of this configuration, in a container with the limits `found`."""
        memory = None if found.memory_bytes is None else found.memory_bytes / MIB
        return Release(
            workers=self.workers(found),
            pool_size=self.database.pool_size,
            max_overflow=self.database.max_overflow,
            memory_limit_mib=memory,
            worker_memory_mib=self.server.worker_memory_mib,
            pool_children_mib=self.offload.children_mib,
            shutdown_seconds=self.server.shutdown_seconds,
            pool_timeout_seconds=self.database.pool_timeout_seconds,
            statement_timeout_ms=self.database.statement_timeout_ms,
            compute_wait_seconds=self.offload.wait_seconds,
            compute_timeout_seconds=self.offload.timeout_seconds,
            request_timeout_seconds=self.server.request_timeout_seconds,
            outbound_pool_timeout_seconds=self.http_client.pool_timeout_seconds,
            outbound_connect_timeout_seconds=self.http_client.connect_timeout_seconds,
            outbound_timeout_seconds=self.http_client.total_timeout_seconds,
        )
