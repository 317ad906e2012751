"""What the gunicorn master does beside forking workers: metric files, exporter, checks, logs.

`gunicorn.conf.py` runs again at each SIGHUP and makes new hooks; what they own is the arbiter's.
"""

import gc
import mmap
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO

import anyio
import structlog
from gunicorn.arbiter import Arbiter
from gunicorn.config import Config
from gunicorn.errors import HaltServer
from gunicorn.glogging import Logger
from gunicorn.workers.base import Worker
from prometheus_client import REGISTRY

from slipway_kit.config.group import read
from slipway_kit.config.server import ServerSettings
from slipway_kit.distribution import require_one_version
from slipway_kit.errors import SettingsError, Unavailable
from slipway_kit.logs import setup as logs
from slipway_kit.metrics import exporter, files
from slipway_kit.metrics.folder import MetricsFolder
from slipway_kit.server.ports import listen, require_free
from slipway_kit.server.recycling import RecyclingLock
from slipway_kit.system import die_with_parent, termination_signals_blocked

log = structlog.get_logger()


class History:
    """Two notes that all processes share: whether a worker ever served, or ever failed to start."""

    def __init__(self) -> None:
        self._notes = mmap.mmap(-1, 2)

    def served(self) -> None:
        """Note that a worker is ready."""
        self._notes[0] = 1

    def failed(self) -> None:
        """Note that a worker could not start."""
        self._notes[1] = 1

    @property
    def hopeless(self) -> bool:
        """Whether workers have failed to start and none ever did."""
        return bool(self._notes[1]) and not self._notes[0]


@dataclass
class Master:
    """What one master owns, from `on_starting` to `on_exit`."""

    folder: MetricsFolder
    exporter: exporter.Exporter | None
    identity: files.SlotIdentity = field(default_factory=files.SlotIdentity)
    turn: RecyclingLock = field(default_factory=RecyclingLock)
    history: History = field(default_factory=History)


class JsonLogger(Logger):  # type: ignore[misc]  # the package has no types
    """gunicorn's own lines go where the service's go, in the same format."""

    def setup(self, cfg: Config) -> None:
        """Take level and format from the service's settings."""
        super().setup(cfg)
        server = read(ServerSettings)
        logs.configure(level=server.log_level, json=server.logs_json)


@dataclass(frozen=True)
class Hooks:
    """gunicorn's hooks, each under its own name.

    `slug` names the folder of metric files; `check` raises `Unavailable` when the service cannot
    start because something that it stands on is missing.
    """

    slug: str
    server: ServerSettings
    check: Callable[[], None]

    def on_starting(self, arbiter: Arbiter) -> None:
        """Check what the service needs, then load the app once for all workers to share.

        gunicorn's own preload would load it before this hook, and metrics made while it is
        imported would have no folder yet.
        """
        try:
            self._begin(arbiter)
        except (SettingsError, files.VolumeFullError, Unavailable) as error:
            for line in str(error).splitlines():
                print(f"error: {line}", file=sys.stderr)  # noqa: T201 (for whoever started it)
            sys.exit(1)

    def when_ready(self, arbiter: Arbiter) -> None:
        """Freeze what workers will share, start the exporter, and look after all of them."""
        gc.collect()
        gc.freeze()
        manage_workers = arbiter.manage_workers

        def manage_all() -> None:
            if arbiter.service.history.hopeless:
                reason = "no worker could start; the log says why"
                raise HaltServer(reason, Arbiter.WORKER_BOOT_ERROR)
            _ensure_exporter(arbiter)
            manage_workers()

        spawn_worker = arbiter.spawn_worker

        def spawn() -> int:
            # gunicorn tells each worker once to leave; who misses it serves until it is killed.
            with termination_signals_blocked():
                pid: int = spawn_worker()
            return pid

        arbiter.manage_workers, arbiter.spawn_worker = manage_all, spawn
        _ensure_exporter(arbiter)

    def pre_fork(self, arbiter: Arbiter, worker: Worker) -> None:
        """Give the worker a slot and a file for its last words."""
        worker.slot = files.lowest_free(other.slot for other in arbiter.WORKERS.values())
        worker.stacks = tempfile.TemporaryFile(dir=arbiter.cfg.worker_tmp_dir)  # noqa: SIM115 (closed in child_exit)
        worker.master = arbiter.service

    def post_fork(self, arbiter: Arbiter, worker: Worker) -> None:
        """Be this worker: its metric files, its parent."""
        master: Master = arbiter.service
        if master.exporter:
            master.exporter.forget()
        master.identity.take(worker.slot, folder=master.folder.path)
        die_with_parent(signal.SIGTERM, parent=worker.ppid)

    def child_exit(self, arbiter: Arbiter, worker: Worker) -> None:
        """Log where a killed worker stood, and forget its live gauges."""
        stacks: IO[bytes] = worker.stacks
        stacks.seek(0)
        if text := stacks.read().decode(errors="replace"):
            log.error("worker stood still", worker=worker.pid, stack=text)
        stacks.close()
        files.mark_dead(worker.slot, folder=arbiter.service.folder.path)

    def on_exit(self, arbiter: Arbiter) -> None:
        """End the exporter and give the metrics folder back."""
        master: Master = arbiter.service
        if master.exporter:
            master.exporter.stop()
        master.folder.release()

    def _begin(self, arbiter: Arbiter) -> None:
        require_one_version()
        master = self._claim(workers=arbiter.cfg.workers)
        try:
            self.check()
            files.install(master.identity, master.folder.path)
            files.adopt(REGISTRY)
            arbiter.app.wsgi()
            # It imports its backend when a loop asks for it, in each worker anew.
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


def _ensure_exporter(arbiter: Arbiter) -> None:
    master: Master = arbiter.service
    if master.exporter:
        master.exporter.ensure(inherited=[listener.sock for listener in arbiter.LISTENERS])


def _refuse_upgrade() -> None:
    log.error("SIGUSR2 is refused: two masters would share one metrics folder; start a new service")
