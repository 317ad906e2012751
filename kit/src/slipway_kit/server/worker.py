"""The worker process: uvicorn under gunicorn, which drains before it exits."""

import asyncio
import atexit
import contextlib
import faulthandler
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from types import FrameType
from typing import Any, ClassVar, cast

import structlog
from fastapi import FastAPI
from uvicorn.config import STARTUP_FAILURE, Config
from uvicorn.server import Server
from uvicorn_worker import UvicornWorker

from slipway_kit.capacity.sums import ShutdownPlan
from slipway_kit.clock import now
from slipway_kit.config.server import ServerSettings
from slipway_kit.http.probes import Drain
from slipway_kit.logs import setup as logs
from slipway_kit.overload.admission import Admission
from slipway_kit.runtime import runtime_of
from slipway_kit.server.acceptor import Acceptor
from slipway_kit.server.protocol import BoundedProtocol, HttpProtocol
from slipway_kit.server.recycling import Recycling
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

    def __init__(  # noqa: PLR0913 (each is used)
        self,
        config: Config,
        *,
        drain: Drain,
        plan: ShutdownPlan,
        recycling: Recycling,
        orphaned: Callable[[], bool],
        ready: Callable[[], None],
        start_seconds: float,
        busy: Callable[[], bool],
    ) -> None:
        super().__init__(config)
        self._drain, self._plan = drain, plan
        self._recycling, self._orphaned, self._ready = recycling, orphaned, ready
        self._start_seconds, self._busy = start_seconds, busy
        self._drained_at: float | None = None
        self._closed = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the lifespan, then accept connections; exit when the start takes too long."""
        try:
            async with asyncio.timeout(self._start_seconds):
                await super().startup([])
        except TimeoutError:
            log.error("start-up took too long", seconds=self._start_seconds)  # noqa: TRY400 (the next line has the stack)
            await _cancel_lifespan()
            sys.exit(STARTUP_FAILURE)
        for listening in sockets or []:
            acceptor = Acceptor(listening, self._protocol, busy=self._busy, tls=self.config.ssl)
            self.servers.append(cast("asyncio.Server", acceptor))
        self._ready()

    def _protocol(self) -> asyncio.Protocol:
        """Return the protocol of a new connection, as uvicorn creates it."""
        protocol: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        return protocol

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
            async with asyncio.timeout(self._plan.worker - self._plan.drain):
                await super().shutdown()
        except TimeoutError:
            log.exception("shutdown took too long")

    async def on_tick(self, counter: int) -> bool:
        """Return whether to shut down; called ten times a second."""
        if await super().on_tick(counter):
            return True
        if not self._closed:
            self._drain_if_needed()
        if counter % _TICKS_A_SECOND == 0:
            self._end_slow_heads()
        if self._drained_at is None:
            return False
        drained = self._closed and not self.server_state.connections
        return drained or now() >= self._drained_at

    def _end_slow_heads(self) -> None:
        for connection in list(self.server_state.connections):
            if isinstance(connection, BoundedProtocol):
                connection.end_if_slow()

    def _drain_if_needed(self) -> None:
        if self._orphaned():
            log.error("master has ended, draining")
            self._drain_without_port(self._plan.drain)
        elif self._drained_at is None and self._recycling.due(self.server_state.total_requests):
            log.info("worker is recycled", requests=self.server_state.total_requests)
            self._drain_without_port(min(self._plan.drain, _RECYCLE_SECONDS))

    def _drain_without_port(self, seconds: float) -> None:
        """Close the port and drain until no connection is left, for at most `seconds`."""
        self._closed = True
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

        gunicorn stops the whole service when a worker exits with status 3. So a failed start-up
        exits with 1, and the master stops the service only if no worker was ever ready.
        """
        try:
            super().run()
        except SystemExit as stop:
            if stop.code != STARTUP_FAILURE:
                raise
            self.master.history.failed()
            time.sleep(_FAILED_START_PAUSE_SECONDS)
            sys.exit(1)

    async def _serve(self) -> None:
        app: FastAPI = self.wsgi
        runtime = runtime_of(app)
        settings, admission = runtime.get(ServerSettings), runtime.get(Admission)
        plan: ShutdownPlan = settings.shutdown
        self.config.app = app
        self.config.http = runtime.get(HttpProtocol).factory
        self.config.timeout_graceful_shutdown = plan.requests
        self.config.root_path = settings.root_path
        self.config.ws_max_size = settings.max_body_bytes
        server = DrainingServer(
            self.config,
            drain=runtime.get(Drain),
            plan=plan,
            recycling=Recycling(settings.max_requests, self.master.recycling_lock),
            orphaned=lambda: os.getppid() != self.ppid,
            ready=self._ready,
            start_seconds=settings.startup_seconds + _START_GRACE_SECONDS,
            busy=lambda: admission.backlogged,
        )
        asyncio.get_running_loop().add_signal_handler(
            signal.SIGQUIT, server.handle_exit, signal.SIGQUIT, None
        )
        async with self._heartbeat():
            # Not gunicorn's wrappers: uvloop would close those twice.
            await server.serve(sockets=[listener.sock for listener in self.sockets])
        if not server.started:
            sys.exit(STARTUP_FAILURE)
        _exit_with_busy_threads()

    def _ready(self) -> None:
        self.master.history.ready()
        log.info("service ready", slot=self.slot)

    @contextlib.asynccontextmanager
    async def _heartbeat(self) -> AsyncIterator[None]:
        """Send heartbeats to gunicorn, also during start-up, drain and shutdown.

        gunicorn watches a worker from its first heartbeat on.
        """

        async def beat() -> None:
            while True:
                self.notify()
                await asyncio.sleep(_HEARTBEAT_SECONDS)

        heartbeat = asyncio.create_task(beat())
        try:
            yield
        finally:
            heartbeat.cancel()


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
