"""A process that serves /metrics for all workers, so that a busy worker delays no scrape."""

import io
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from http import HTTPStatus
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import structlog
from prometheus_client import CollectorRegistry, MetricsHandler

from slipway_kit.clock import now
from slipway_kit.metrics.files import SafeCollector
from slipway_kit.system import child_is_running, die_with_parent, terminate_child

log = structlog.get_logger()
# For a whole request, and for a scraper that stops reading.
_CLIENT_SECONDS = 10
_MAX_HEAD_BYTES = 8192
_HEAD_END = re.compile(rb"\n\r?\n")
# Beyond them the oldest is closed: whoever holds connections open delays no scrape.
_MAX_CONNECTIONS = 16
# Between two starts of an exporter that keeps dying.
_PAUSE_SECONDS = 1.0
# Between SIGTERM and SIGKILL.
_STOP_SECONDS = 1.0


class Exporter:
    """The exporter process of a master, which binds the port once and replaces a dead process."""

    def __init__(self, listener: socket.socket, folder: Path) -> None:
        self._listener, self._folder = listener, folder
        self._pid = 0
        self._started = -_PAUSE_SECONDS

    def ensure(self, *, inherited: Iterable[socket.socket] = ()) -> None:
        """Start the process unless it runs; it closes the `inherited` sockets first."""
        if self._pid and child_is_running(self._pid):
            return
        if now() - self._started < _PAUSE_SECONDS:
            return
        if self._pid:
            log.error("metrics exporter ended and is replaced", pid=self._pid)
        self._started = now()
        parent = os.getpid()
        try:
            self._pid = os.fork()
        except OSError as error:
            log.error("metrics exporter cannot be started", error=str(error))  # noqa: TRY400 (the cause is outside)
            return
        if self._pid == 0:
            self._run(parent, inherited)

    def stop(self) -> None:
        """Stop the process and close the port."""
        if self._pid:
            terminate_child(self._pid, timeout_seconds=_STOP_SECONDS)
        self._pid = 0
        self._listener.close()

    def close_inherited(self) -> None:
        """Close the port in a forked worker."""
        self._listener.close()

    def _run(self, parent: int, inherited: Iterable[socket.socket]) -> NoReturn:
        try:
            signal.signal(signal.SIGTERM, lambda *_: sys.exit())
            for sig in (signal.SIGHUP, signal.SIGCHLD, signal.SIGQUIT):
                signal.signal(sig, signal.SIG_DFL)
            # Ctrl-C reaches the whole group; the master stops this process after the workers.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            die_with_parent(signal.SIGKILL, parent=parent)
            for other in inherited:
                other.close()
            registry = CollectorRegistry()
            registry.register(SafeCollector(None, str(self._folder)))
            _Server(self._listener, parent, _Handler.factory(registry)).serve_forever()
        finally:
            # Skip the master's exit hooks.
            os._exit(1)


class _Handler(MetricsHandler):
    timeout = _CLIENT_SECONDS

    def setup(self) -> None:
        """Read the head, within bounds; the handler takes anything else for a closed connection."""
        super().setup()
        self.rfile.close()
        self.rfile = io.BytesIO()
        head, give_up = b"", now() + _CLIENT_SECONDS
        with suppress(OSError):
            while len(head) <= _MAX_HEAD_BYTES and now() < give_up:
                received = self.connection.recv(_MAX_HEAD_BYTES)
                head += received
                if not received or _HEAD_END.search(head):
                    self.rfile = io.BytesIO(head)
                    return

    def do_GET(self) -> None:  # noqa: N802 (the name of the base class)
        """Serve /metrics."""
        if urlsplit(self.path).path == "/metrics":
            super().do_GET()
        else:
            self.send_error(HTTPStatus.NOT_FOUND, "only /metrics is served here")


class _Server(ThreadingHTTPServer):
    def __init__(self, listener: socket.socket, parent: int, handler: type) -> None:
        super().__init__(listener.getsockname()[:2], handler, bind_and_activate=False)
        self.socket.close()
        self.socket, self._parent = listener, parent
        self._open: list[socket.socket] = []

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread of its own, when the oldest has made room for it."""
        while len(self._open) >= _MAX_CONNECTIONS:
            with suppress(OSError, IndexError):
                self._open[0].shutdown(socket.SHUT_RDWR)
            time.sleep(0.001)
        self._open.append(request)
        super().process_request(request, client_address)

    def close_request(self, request: Any) -> None:
        """Forget the connection."""
        self._open.remove(request)
        super().close_request(request)

    def service_actions(self) -> None:
        """Exit with the master, also without help of the kernel."""
        if os.getppid() != self._parent:
            sys.exit()

    def handle_error(self, request: object, client_address: object) -> None:
        """Log the error of a scrape in the format of the service."""
        del request
        log.warning("scrape failed", client=str(client_address), error=repr(sys.exc_info()[1]))
