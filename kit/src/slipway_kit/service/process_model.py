"""The gunicorn settings of a service, which `gunicorn.conf.py` assigns."""

import asyncio
import sys
from typing import Self

import structlog

from slipway_kit.capacity.sums import descriptor_limits
from slipway_kit.config.cgroup import read_limits
from slipway_kit.db.connection import check_once
from slipway_kit.errors import SettingsError, error_lines
from slipway_kit.metrics.folder import memory_folder
from slipway_kit.server.master import Hooks, JsonLogger
from slipway_kit.service.settings import ServiceSettings

log = structlog.get_logger()


class ProcessModel:
    """Gunicorn settings under their own names, and the server hooks."""

    worker_class = "slipway_kit.server.worker.DrainingWorker"
    logger_class = JsonLogger

    def __init__(self, settings: ServiceSettings, *, slug: str) -> None:
        server, database = settings.server, settings.database

        def check() -> None:
            for limit in descriptor_limits(settings.release(read_limits())):
                if not limit.holds:
                    log.warning("file descriptors are few", limit=str(limit), change=limit.change)
            if database.required:
                asyncio.run(check_once(database))

        self.bind = [server.bind(server.port)]
        self.workers = settings.workers(read_limits())
        server.check_recycling(self.workers)
        self.timeout = server.worker_timeout_seconds
        self.graceful_timeout = server.shutdown.graceful_timeout
        self.keepalive = server.keep_alive_seconds
        self.forwarded_allow_ips = server.forwarded_allow_ips
        # Heartbeat files are in memory: a slow disk must not look like a stalled worker.
        self.worker_tmp_dir = str(memory_folder())
        self.hooks = Hooks(slug, server, check)

    @classmethod
    def load(cls, settings: type[ServiceSettings], *, slug: str) -> Self:
        """Read the settings; exit with one message for each problem."""
        try:
            return cls(settings.load(), slug=slug)
        except SettingsError as error:
            sys.exit(error_lines(error))
