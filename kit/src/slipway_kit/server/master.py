"""The gunicorn master's hooks: metric files, exporter, checks at the start, logs.

`gunicorn.conf.py` makes new hooks at each SIGHUP, so their state is kept at the arbiter.
"""

import gc
import mmap
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import IO

import anyio
import structlog
from gunicorn.arbiter import Arbiter
from gunicorn.config import Config
from gunicorn.errors import HaltServer
from gunicorn.glogging import Logger
from gunicorn.workers.base import Worker
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.multiprocess import mark_process_dead

from slipway_kit.config.group import read
from slipway_kit.config.server import ServerSettings
from slipway_kit.errors import SettingsError, Unavailable, error_lines
from slipway_kit.logs import setup as logs
from slipway_kit.metrics import exporter, files
from slipway_kit.metrics.folder import MetricsFolder
from slipway_kit.server.recycling import Recycling
from slipway_kit.server.start_checks import listen, require_free, require_one_version
from slipway_kit.system import die_with_parent, termination_signals_blocked

log = structlog.get_logger()


@dataclass
class Master:
    """The state of one master, from `on_starting` to `on_exit`."""

    folder: MetricsFolder
    exporter: exporter.Exporter | None
    identity: files.SlotIdentity = field(default_factory=files.SlotIdentity)
    recycling: Recycling = field(default_factory=Recycling)
    # Shared with the workers: whether one of them ever was ready.
    was_ready: mmap.mmap = field(default_factory=partial(mmap.mmap, -1, 1))


class JsonLogger(Logger):  # type: ignore[misc]  # the package has no types
    """Logs gunicorn's own lines like those of the service."""

    def setup(self, cfg: Config) -> None:
        """Apply the level and the format of the settings."""
        super().setup(cfg)
        server = read(ServerSettings)
        logs.LogSetup(level=server.log_level, json=server.logs_json).apply()


@dataclass(frozen=True)
class Hooks:
    """gunicorn's hooks, each under its own name.

    `slug` names the folder of metric files; `check` raises `Unavailable` when a dependency that the
    start needs is missing.
    """

    slug: str
    server: ServerSettings
    check: Callable[[], None]

    def on_starting(self, arbiter: Arbiter) -> None:
        """Check the dependencies of the service, then import the app once for all workers.

        gunicorn's own preload comes before this hook, when metrics have no folder yet.
        """
        try:
            self._start(arbiter)
        except (SettingsError, Unavailable) as error:
            sys.exit(error_lines(error))

    def when_ready(self, arbiter: Arbiter) -> None:
        """Freeze the heap that workers will share, start the exporter, and supervise both."""
        gc.collect()
        gc.freeze()
        manage_workers = arbiter.manage_workers

        def supervise() -> None:
            _ensure_exporter(arbiter)
            manage_workers()

        spawn_worker = arbiter.spawn_worker

        def spawn() -> int:
            # gunicorn sends SIGTERM once; a worker that lost it would serve until it is killed.
            try:
                with termination_signals_blocked():
                    pid: int = spawn_worker()
            except OSError as error:
                # No process, descriptor or file is left; gunicorn itself would end the service.
                log.error("worker cannot be started, tried again", error=str(error))  # noqa: TRY400 (the cause is outside)
                return 0
            return pid

        stop = arbiter.stop

        def stop_all(graceful: bool = True) -> None:
            # Another worker that failed to start raises again, and `on_exit` would be skipped.
            while True:
                with suppress(HaltServer):
                    stop(graceful)
                    return

        arbiter.manage_workers, arbiter.spawn_worker, arbiter.stop = supervise, spawn, stop_all
        _ensure_exporter(arbiter)

    def pre_fork(self, arbiter: Arbiter, worker: Worker) -> None:
        """Give the worker a slot, and a file for the stacks of a worker that is killed."""
        worker.slot = files.lowest_free(other.slot for other in arbiter.WORKERS.values())
        worker.stacks = tempfile.TemporaryFile(dir=arbiter.cfg.worker_tmp_dir)  # noqa: SIM115 (closed in child_exit)
        worker.master = arbiter.service

    def post_fork(self, arbiter: Arbiter, worker: Worker) -> None:
        """In the new worker: open the metric files of its slot, and follow the master's end."""
        master: Master = arbiter.service
        if master.exporter:
            master.exporter.close_inherited()
        master.identity.use_slot(worker.slot, folder=master.folder.path)
        die_with_parent(signal.SIGTERM, parent=worker.ppid)

    def child_exit(self, arbiter: Arbiter, worker: Worker) -> None:
        """Log the stacks of a killed worker, and remove its live gauges."""
        stacks: IO[bytes] = worker.stacks
        stacks.seek(0)
        if text := stacks.read().decode(errors="replace"):
            log.error("worker was blocked", worker=worker.pid, stack=text)
        stacks.close()
        path = str(arbiter.service.folder.path)
        mark_process_dead(worker.slot, path=path)  # type: ignore[no-untyped-call]

    def on_exit(self, arbiter: Arbiter) -> None:
        """Stop the exporter and release the metrics folder."""
        master: Master = arbiter.service
        if master.exporter:
            master.exporter.stop()
        master.folder.release()

    def _start(self, arbiter: Arbiter) -> None:
        require_one_version()
        master = self._claim(workers=arbiter.cfg.workers)
        try:
            self.check()
            files.install(master.identity, master.folder.path)
            files.move_to_files(REGISTRY)
            arbiter.app.wsgi()
            _warn_of_metrics(REGISTRY)
            # anyio imports its backend at the first use: here once instead of in each worker.
            anyio.run(anyio.sleep, 0)
        except BaseException:
            master.folder.release()
            raise
        arbiter.service = master
        arbiter.handle_usr2 = _refuse_upgrade

    def _claim(self, *, workers: int) -> Master:
        require_free(self.server.host, self.server.port, setting="PORT")
        folder = MetricsFolder.claim(os.environ.get("PROMETHEUS_MULTIPROC_DIR"), slug=self.slug)
        files.require_room(folder.path, workers=workers)
        if self.server.metrics_port == 0:
            return Master(folder, None)
        listener = listen(self.server.host, self.server.metrics_port, setting="METRICS_PORT")
        return Master(folder, exporter.Exporter(listener, folder.path))


def _warn_of_metrics(registry: CollectorRegistry) -> None:
    if names := files.not_exported(registry):
        log.warning("metrics are not exported by several processes, use a Gauge", names=names)
    if names := files.set_before_fork(registry):
        log.warning("gauges were set before the workers exist, set them in a lifespan", names=names)


def _ensure_exporter(arbiter: Arbiter) -> None:
    master: Master = arbiter.service
    if master.exporter:
        master.exporter.ensure(inherited=[listener.sock for listener in arbiter.LISTENERS])


def _refuse_upgrade() -> None:
    log.error("SIGUSR2 is refused: two masters would share one metrics folder; start a new service")
