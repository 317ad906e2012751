"""Every setting of the service, read once when the process starts.

A group lives beside the code that it tunes; this module gathers the groups and checks them against
each other.
"""

import os
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from app.kit.capacity import Release, waiting
from app.kit.cgroup import CgroupLimits
from app.kit.database import DatabaseSettings
from app.kit.environment import Group, SettingsError, read, refuse_unknown
from app.kit.health import ReadinessSettings
from app.kit.server import MIB, PREFIXES, ServerSettings

# In the order of the fields below.
GROUPS: tuple[type[Group], ...] = (ServerSettings, DatabaseSettings, ReadinessSettings)


class Settings(BaseModel):
    """The whole configuration, frozen."""

    model_config = ConfigDict(frozen=True)

    server: ServerSettings = Field(default_factory=ServerSettings)
    database: DatabaseSettings = Field(default_factory=DatabaseSettings)
    readiness: ReadinessSettings = Field(default_factory=ReadinessSettings)

    @classmethod
    def load(cls) -> Self:
        """Read the environment or raise `SettingsError` with a sentence for each problem."""
        found: dict[str, Group] = {}
        wrong: list[str] = []
        try:
            refuse_unknown(os.environ, GROUPS, prefixes=(*PREFIXES, "DATABASE_", "READINESS_"))
        except SettingsError as error:
            wrong.append(str(error))
        for name, group in zip(cls.model_fields, GROUPS, strict=True):
            try:
                found[name] = read(group)
            except SettingsError as error:
                wrong.append(str(error))
        if wrong:
            raise SettingsError("\n".join(wrong))
        settings = cls.model_validate(found)
        settings.check()
        return settings

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

    def release(self, found: CgroupLimits) -> Release:
        """Return one pod of this configuration, in a container with the limits `found`."""
        memory = None if found.memory_bytes is None else found.memory_bytes / MIB
        return Release(
            workers=self.server.workers(found),
            pool_size=self.database.pool_size,
            max_overflow=self.database.max_overflow,
            memory_limit_mib=memory,
            worker_memory_mib=self.server.worker_memory_mib,
            shutdown_seconds=self.server.shutdown_seconds,
            pool_timeout_seconds=self.database.pool_timeout_seconds,
            statement_timeout_ms=self.database.statement_timeout_ms,
            request_timeout_seconds=self.server.request_timeout_seconds,
        )
