"""All settings of a service, read once at start.

Each group is defined beside the code that it configures; this module gathers and cross-checks them.
"""

import os
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, model_validator

from slipway_kit.capacity.sums import Release, time_limits
from slipway_kit.client.settings import HttpClientSettings
from slipway_kit.concurrency.process_pool import OffloadSettings
from slipway_kit.config.cgroup import CgroupLimits
from slipway_kit.config.group import Group, read, refuse_unknown
from slipway_kit.config.server import MIB, ServerSettings
from slipway_kit.db.settings import DatabaseSettings, ReadinessSettings
from slipway_kit.errors import SettingsError
from slipway_kit.http.openapi import OpenAPISettings
from slipway_kit.server.watchdog import WatchdogSettings
from slipway_kit.service.features import setting_groups
from slipway_kit.system import max_descriptors
from slipway_kit.tracing.settings import TracingSettings


class ServiceSettings(BaseModel):
    """The whole configuration, frozen; a service subclasses it and names its features.

    A subclass adds a group that belongs to no feature as a field.
    """

    model_config = ConfigDict(frozen=True)

    enabled: ClassVar[tuple[str, ...]] = ()

    server: ServerSettings = Field(default_factory=ServerSettings)
    openapi: OpenAPISettings = Field(default_factory=OpenAPISettings)
    database: DatabaseSettings = Field(default_factory=DatabaseSettings)
    readiness: ReadinessSettings = Field(default_factory=ReadinessSettings)
    offload: OffloadSettings = Field(default_factory=OffloadSettings)
    watchdog: WatchdogSettings = Field(default_factory=WatchdogSettings)
    tracing: TracingSettings = Field(default_factory=TracingSettings)
    http_client: HttpClientSettings = Field(default_factory=HttpClientSettings)
    # The groups of the features, in order.
    features: tuple[SerializeAsAny[Group], ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _read_features(cls, given: dict[str, Any]) -> dict[str, Any]:
        if "features" in given:
            return given
        return {**given, "features": tuple(group() for group in setting_groups(cls.enabled))}

    @classmethod
    def fields(cls) -> dict[str, type[Group]]:
        """Return the groups that are fields, by field name."""
        return {
            name: field.annotation
            for name, field in cls.model_fields.items()
            if isinstance(field.annotation, type) and issubclass(field.annotation, Group)
        }

    @classmethod
    def groups(cls) -> tuple[type[Group], ...]:
        """Return every group class, those of the features last."""
        return (*cls.fields().values(), *setting_groups(cls.enabled))

    @classmethod
    def load(cls) -> Self:
        """Read the environment or raise `SettingsError` with one line for each problem."""
        groups = cls.groups()
        steps: list[Callable[[], object]] = [partial(refuse_unknown, os.environ, groups)]
        steps += [partial(read, group) for group in groups]
        wrong: list[str] = []
        for step in steps:
            try:
                step()
            except SettingsError as error:
                wrong.append(str(error))
        if wrong:
            raise SettingsError("\n".join(wrong))
        settings = cls()
        settings.check()
        return settings

    def parts(self) -> list[Group]:
        """Return every group, those of the features last."""
        return [*(getattr(self, name) for name in self.fields()), *self.features]

    def check(self) -> None:
        """Raise `SettingsError` when groups contradict each other."""
        limits = time_limits(self.release(CgroupLimits()))
        broken = [f"{limit}; {limit.change}." for limit in limits if not limit.holds]
        if self.server.port == self.server.metrics_port:
            broken.append(f"PORT and METRICS_PORT are both {self.server.port}; change one of them.")
        if self.server.production and self.database.echo:
            broken.append("DATABASE_ECHO logs every statement; unset it in production.")
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
            max_body_bytes=self.server.max_body_bytes,
            upload_min_bytes_per_second=self.server.upload_min_bytes_per_second,
            outbound_pool_timeout_seconds=self.http_client.pool_timeout_seconds,
            outbound_connect_timeout_seconds=self.http_client.connect_timeout_seconds,
            outbound_timeout_seconds=self.http_client.total_timeout_seconds,
            outbound_connections=self.http_client.max_connections,
            pool_processes=self.offload.size,
            descriptors=max_descriptors(),
        )
