"""The gunicorn settings of a service, which `gunicorn.conf.py` assigns."""

import asyncio
import sys
from dataclasses import dataclass
from typing import Self

from slipway_kit.config.cgroup import read_limits
from slipway_kit.db.connection import check_once
from slipway_kit.db.settings import DatabaseSettings
from slipway_kit.errors import SettingsError
from slipway_kit.metrics.folder import memory_folder
from slipway_kit.server.master import Hooks, JsonLogger
from slipway_kit.service.settings import ServiceSettings


@dataclass(frozen=True)
class ProcessModel:
    """Gunicorn settings under their own names, and the server hooks."""

    bind: list[str]
    workers: int
    timeout: int
    graceful_timeout: int
    keepalive: int
    forwarded_allow_ips: str
    worker_tmp_dir: str
    hooks: Hooks
    worker_class: str = "slipway_kit.server.worker.DrainingWorker"
    logger_class: type = JsonLogger

    @classmethod
    def load(cls, settings: type[ServiceSettings], *, slug: str) -> Self:
        """Read the settings; exit with one message for each problem."""
        try:
            return cls._of(settings.load(), slug)
        except SettingsError as error:
            sys.exit("\n".join(f"error: {line}" for line in str(error).splitlines()))

    @classmethod
    def _of(cls, settings: ServiceSettings, slug: str) -> Self:
        server = settings.server
        workers = settings.workers(read_limits())
        server.check_recycling(workers)
        return cls(
            bind=[server.bind(server.port)],
            workers=workers,
            timeout=server.worker_timeout_seconds,
            graceful_timeout=server.shutdown.graceful_timeout,
            keepalive=server.keep_alive_seconds,
            forwarded_allow_ips=server.forwarded_allow_ips,
            # Heartbeat files are in memory: a slow disk must not look like a stalled worker.
            worker_tmp_dir=str(memory_folder()),
            hooks=Hooks(slug, server, lambda: _check_database(settings.database)),
        )


def _check_database(settings: DatabaseSettings) -> None:
    if settings.required:
        asyncio.run(check_once(settings))
