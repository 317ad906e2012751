"""The worker process: uvicorn under gunicorn, which drains before it exits."""

import asyncio
import atexit
import faulthandler
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any, ClassVar, cast

import structlog
from fastapi import FastAPI
from uvicorn.config import STARTUP_FAILURE, Config
from uvicorn.server import Server
from uvicorn_worker import UvicornWorker

from slipway_kit.clock import now
from slipway_kit.config.server import ServerSettings
from slipway_kit.http.probes import Drain
from slipway_kit.logs import setup as logs
from slipway_kit.overload.admission import Admission
from slipway_kit.overload.pauses import PAUSES
from slipway_kit.runtime import Runtime, runtime_of
from slipway_kit.server.acceptor import Acceptor
from slipway_kit.server.protocol import BoundedProtocol, HttpProtocol
from slipway_kit.system import unblock_termination_signals

log = structlog.get_logger()
_TICKS_A_SECOND = 10
# Between two heartbeats to gunicorn.
_HEARTBEAT_SECONDS = 0.5
# For requests in flight after Ctrl-C.
_QUICK_SECONDS = 1
# For the idle connections of a recycled worker.
_RECYCLE_SECONDS = 2
# After the deadline of the start-up, for its phases to log why they are late.
_START_GRACE_SECONDS = 0.5
# Before a worker that could not start is replaced.
_FAILED_START_PAUSE_SECONDS = 1
# For threads that cannot be cancelled, at the very end.
_THREADS_SECONDS = 1


class DrainingServer(Server):
    """A uvicorn server that drains its connections before it shuts down.

    While it drains, readiness fails and each answer closes its connection. After SIGTERM the port
    stays open for the whole time: new connections arrive until every proxy is updated. A worker
    that is recycled or has lost its master closes the port at once.
    """

    def __init__(self, config: Config, runtime: Runtime, worker: "DrainingWorker") -> None:
        super().__init__(config)
        self._drain, self._admission = runtime.get(Drain), runtime.get(Admission)
        self._settings = runtime.get(ServerSettings)
        self._plan = self._settings.shutdown
        self._worker = worker
        self._drained_at: float | None = None
        self._closed, self._drain_seconds = False, self._plan.drain

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the lifespan, then accept connections; exit when the start takes too long."""
        seconds = self._settings.startup_seconds + _START_GRACE_SECONDS
        try:
            async with asyncio.timeout(seconds):
                await super().startup([])
        except TimeoutError:
            log.error("start-up took too long", seconds=seconds)  # noqa: TRY400 (the next line has the stack)
            await _cancel_lifespan()
            sys.exit(STARTUP_FAILURE)
        # As uvicorn creates the protocol of a new connection.
        factory = cast("Callable[..., asyncio.Protocol]", self.config.http_protocol_class)
        protocol = partial(
            factory,
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )

        def busy() -> bool:
            return self._admission.backlogged

        for listening in sockets or []:
            acceptor = Acceptor(listening, protocol, busy=busy, tls=self.config.ssl)
            self.servers.append(cast("asyncio.Server", acceptor))
        self._worker.report_ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain; a second SIGTERM changes nothing, SIGINT and SIGQUIT end it early.

        uvicorn would raise the signal again at the end, which skips every exit hook.
        """
        del frame
        self._drain.begin()
        if sig != signal.SIGTERM:
            self.config.timeout_graceful_shutdown = _QUICK_SECONDS
            self.should_exit = True
        elif not self.started:
            self.should_exit = True
        elif self._drained_at is None:
            self._drained_at = now() + self._plan.drain

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Shut down within the plan's time; gunicorn enforces none on a recycled worker."""
        # The acceptors close their sockets.
        del sockets
        try:
            async with asyncio.timeout(self._plan.worker - self._drain_seconds):
                await super().shutdown()
        except TimeoutError:
            log.exception("shutdown took too long")

    async def on_tick(self, counter: int) -> bool:
        """Return whether to shut down; called ten times a second."""
        PAUSES.tick()
        if await super().on_tick(counter):
            return True
        if not self._closed:
            self._drain_if_needed()
        if counter % _TICKS_A_SECOND == 0:
            for connection in list(self.server_state.connections):
                if isinstance(connection, BoundedProtocol):
                    connection.end_if_slow()
        if self._drained_at is None:
            return False
        drained = self._closed and not self.server_state.connections
        return drained or now() >= self._drained_at

    def _drain_if_needed(self) -> None:
        requests, recycling = self.server_state.total_requests, self._worker.master.recycling
        if os.getppid() != self._worker.ppid:
            log.error("master has ended, draining")
            self._drain_without_port(self._plan.drain)
        elif self._drained_at is None and recycling.due(requests, self._settings.max_requests):
            log.info("worker is recycled", requests=requests)
            self._drain_without_port(min(self._plan.drain, _RECYCLE_SECONDS))

    def _drain_without_port(self, seconds: float) -> None:
        """Close the port and drain until no connection is left, for at most `seconds`.

        What that leaves of the drain's time is for requests in flight.
        """
        self._closed, self._drain_seconds = True, seconds
        requests = self._plan.drain + self._plan.requests - seconds
        self.config.timeout_graceful_shutdown = cast("int", requests)
        self._drain.begin()
        for server in self.servers:
            server.close()
        self._drained_at = now() + seconds


class DrainingWorker(UvicornWorker):  # type: ignore[misc]  # the package has no types
    """gunicorn's worker class of this service."""

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {
        "loop": "uvloop",
        "http": "httptools",
        "lifespan": "on",
        "server_header": False,
        "access_log": False,
        "limit_max_requests": None,
        "callback_notify": None,
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # The base class ties uvicorn's logger to gunicorn's handlers.
        logs.propagate_to_root("uvicorn.error")

    def init_signals(self) -> None:
        """Write every stack on SIGABRT, which gunicorn sends to a blocked worker."""
        super().init_signals()
        unblock_termination_signals()
        faulthandler.enable(file=self.stacks, all_threads=True)

    def run(self) -> None:
        """Serve until the worker is stopped.

        gunicorn stops the whole service when a worker exits with the status of a failed start-up,
        so it exits with 1 as soon as some worker has been ready.
        """
        try:
            super().run()
        except SystemExit as stop:
            if stop.code != STARTUP_FAILURE:
                raise
            time.sleep(_FAILED_START_PAUSE_SECONDS)
            sys.exit(1 if self.master.was_ready[0] else STARTUP_FAILURE)

    async def _serve(self) -> None:
        app: FastAPI = self.wsgi
        runtime = runtime_of(app)
        settings = runtime.get(ServerSettings)
        self.config.app = app
        self.config.http = runtime.get(HttpProtocol).factory
        self.config.timeout_graceful_shutdown = settings.shutdown.requests
        self.config.root_path = settings.root_path
        self.config.ws_max_size = settings.max_body_bytes
        server = DrainingServer(self.config, runtime, self)
        asyncio.get_running_loop().add_signal_handler(
            signal.SIGQUIT, server.handle_exit, signal.SIGQUIT, None
        )
        heartbeat = asyncio.create_task(self._beat())
        try:
            # Not gunicorn's wrappers: uvloop would close those twice.
            await server.serve(sockets=[listener.sock for listener in self.sockets])
        finally:
            heartbeat.cancel()
        if not server.started:
            sys.exit(STARTUP_FAILURE)
        _exit_with_busy_threads()

    def report_ready(self) -> None:
        """Tell the master and the log that this worker serves."""
        self.master.was_ready[0] = 1
        settings = runtime_of(self.wsgi).get(ServerSettings)
        log.info("service ready", slot=self.slot, **({} if settings.logs_json else settings.pages))

    async def _beat(self) -> None:
        """Send heartbeats to gunicorn, also during start-up, drain and shutdown.

        gunicorn watches a worker from its first heartbeat on.
        """
        while True:
            self.notify()
            await asyncio.sleep(_HEARTBEAT_SECONDS)


async def _cancel_lifespan() -> None:
    """Cancel the lifespan, so that uvicorn logs the traceback of where it waits."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.wait(others, timeout=_START_GRACE_SECONDS)


def _exit_with_busy_threads() -> None:
    """Exit in a second even when a thread of a plain `def` route is busy; exit hooks run."""

    def exit_now() -> None:
        log.error("threads are still busy, exiting without them")
        atexit._run_exitfuncs()  # noqa: SLF001 (there is no public way to run them before _exit)
        os._exit(0)

    timer = threading.Timer(_THREADS_SECONDS, exit_now)
    timer.daemon = True
    timer.start()
