"""A service with all that it depends on, each of which can be broken, and a load on it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil

from kit.tests.e2e.load_job import TRAFFIC, Load
from kit.tests.runtime.harness import SCENARIOS, Service, environment
from kit.tests.support import ports
from kit.tests.support.collector import Collector
from kit.tests.support.paths import REPOSITORY, SERVICE
from slipway_kit.dev.postgres_server import Server
from slipway_kit.dev.programs import end_with_us

RATE = 100.0
CONNECTIONS, SOCKETS, IDLE = 30, 4, 10
END_SECONDS = 60.0
# Few, so that they can run out.
DATABASE_CONNECTIONS = "40"
# As in production, where a crash must lose nothing; but nobody else may connect.
POSTGRES = {"max_connections": DATABASE_CONNECTIONS, "listen_addresses": ""}
PIECE_BYTES = 2**16
# Of data folders; the id of the process that made one follows.
PREFIX = "faults-data-"


def remove_stale(folder: Path) -> None:
    """Remove the data of runs that were killed."""
    for found in folder.glob(f"{PREFIX}*"):
        if not psutil.pid_exists(int(found.name.removeprefix(PREFIX).split("-")[0])):
            shutil.rmtree(found, ignore_errors=True)


class Database:
    """PostgreSQL with data of its own."""

    def __init__(self) -> None:
        remove_stale(Path(tempfile.gettempdir()))
        # Not pytest's: as root the server is another user, and must reach it.
        self._folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
        self._folder.chmod(0o755)
        self._server = Server(self._folder)
        self._server.initialise({})
        self.start()

    @property
    def url(self) -> str:
        """Where it is."""
        return self._server.url

    def start(self) -> None:
        """Start it, and return when it answers."""
        self._server.forget_stranger()
        self._server.start(POSTGRES, preexec_fn=end_with_us())

    def stop(self) -> None:
        """Stop it, as a restart of the machine would."""
        self._server.stop()

    def remove(self) -> None:
        """Stop it, and remove its data."""
        self.stop()
        shutil.rmtree(self._folder)

    def crash(self) -> None:
        """Kill all of it."""
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        while self._server.pid() is not None:
            time.sleep(0.01)

    def processes(self) -> list[psutil.Process]:
        """Return the server's process and those of its connections and helpers."""
        pid = self._server.pid()
        if pid is None:
            return []
        own = psutil.Process(pid)
        return [own, *own.children(recursive=True)]

    def freeze(self) -> list[psutil.Process]:
        """Have every connection stand still amid its statement; return them."""
        stopped = []
        for process in self.processes()[1:]:
            with suppress(psutil.NoSuchProcess):
                if "postgres: postgres " in " ".join(process.cmdline()):
                    process.suspend()
                    stopped.append(process)
        return stopped


class Assistant(ThreadingHTTPServer):
    """The service that the shop asks for advice: repeats the question, after `seconds`."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Advice)
        self.seconds = 0.0

    @classmethod
    def started(cls, port: int = 0) -> "Assistant":
        """Serve on a port from now on."""
        found = cls(port)
        threading.Thread(target=found.serve_forever, args=(0.02,), daemon=True).start()
        return found

    def end(self) -> None:
        """Serve no more, and leave the port."""
        self.shutdown()
        self.server_close()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server_port}/advice"

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that leave break their connections off."""


class _Advice(BaseHTTPRequestHandler):
    server: Assistant
    # Each answer ends its connection: one that is dead answers nobody.
    protocol_version = "HTTP/1.0"

    def do_POST(self) -> None:
        """Answer with what was sent."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(self.server.seconds)
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (so it is called)
        """Say nothing."""


class Reader:
    """Reads what the service logs and keeps it, until it is told to stall."""

    def __init__(self, path: Path) -> None:
        self._out, self.into = os.pipe()
        self._path, self._goes = path, threading.Event()
        self._goes.set()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        with self._path.open("ab", buffering=0) as kept:
            while data := os.read(self._out, PIECE_BYTES):
                kept.write(data)
                self._goes.wait()

    @contextmanager
    def stalled(self) -> Iterator[None]:
        """Read nothing inside."""
        self._goes.clear()
        try:
            yield
        finally:
            self._goes.set()


class WatchedService(Service):
    """A service whose log goes through a pipe to a reader, or where it is told to."""

    def __init__(self, log: Path, settings: dict[str, str], *, out: int | None = None) -> None:
        self.port, self.metrics_port = int(settings["PORT"]), int(settings["METRICS_PORT"])
        self.log = log
        log.touch()
        self.reader = Reader(log)
        self.process = psutil.Popen(
            SCENARIOS,
            cwd=SERVICE,
            env=settings,
            stdout=self.reader.into if out is None else out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=end_with_us(),
        )
        os.close(self.reader.into)

    def grandchildren(self) -> list[psutil.Process]:
        """Return the processes that workers have started."""
        return [
            child
            for worker in self.workers()
            for child in psutil.Process(worker).children(recursive=True)
        ]


def settings(database: Database, **more: object) -> dict[str, str]:
    """Return the settings of a service: its defaults, but for ports and short times."""
    given = {
        "DATABASE_POOL_TIMEOUT_SECONDS": "2",
        "DATABASE_STATEMENT_TIMEOUT_MS": "2000",
        "REQUEST_TIMEOUT_SECONDS": "5",
        "HTTP_CLIENT_TOTAL_TIMEOUT_SECONDS": "4",
        "SHUTDOWN_SECONDS": "10",
        "THREADPOOL_TOKENS": "4",
    }
    return environment(database.url, **{**given, **more})


def service_with(
    database: Database, collector: Collector, assistant: Assistant, log: Path
) -> WatchedService:
    """Start a service that depends on all of them."""
    variables = settings(
        database,
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
        SHOP_ASSISTANT_URL=assistant.url if TRAFFIC.startswith("shop") else None,
    )
    found = WatchedService(log, variables)
    found.wait_ready(int(variables["WEB_CONCURRENCY"]))
    return found


@contextmanager
def under_load(port: int, *, rate: float = RATE) -> Iterator[Load]:
    """Ask a service all the time inside; afterwards `result` is filled in."""
    load = Load()
    command: Sequence[str] = [
        *(sys.executable, "-m", "kit.tests.e2e.load.client", f"http://127.0.0.1:{port}"),
        *("--traffic", f"kit.tests.e2e.{TRAFFIC}", f"--rate={rate:g}"),
        *(f"--connections={CONNECTIONS}", f"--sockets={SOCKETS}", f"--idle={IDLE}"),
        # What a service with the settings above takes to drain.
        *("--drain-seconds", "2"),
    ]
    with subprocess.Popen(
        command,
        cwd=SERVICE,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        text=True,
    ) as client:
        assert client.stdout is not None
        assert json.loads(client.stdout.readline())["event"] == "started"
        try:
            yield load
        except BaseException:
            client.kill()
            raise
        client.send_signal(signal.SIGTERM)
        said, _ = client.communicate(timeout=END_SECONDS)
    load.result = json.loads(said.splitlines()[-1])


def free_port() -> str:
    """Return a port that nobody listens on."""
    return str(ports.free())


def total(metrics: dict[str, Any], name: str) -> float:
    """Return the sum of a metric over its labels."""
    return float(sum(value for key, value in metrics.items() if key.split("{")[0] == name))
