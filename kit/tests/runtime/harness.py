"""A real gunicorn with real workers, seen from outside: by HTTP, by signals, by its log."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from typing import Any

import psutil

from kit.tests.support import ports
from kit.tests.support.paths import REPOSITORY, SERVICE
from slipway_kit.dev.programs import end_with_us
from slipway_kit.testing.waiting import eventually


class Service:
    """One running service; `settings` are environment variables."""

    def __init__(self, log: Path, command: list[str], settings: dict[str, str]) -> None:
        self.port = int(settings["PORT"])
        self.metrics_port = int(settings["METRICS_PORT"])
        self.log = log
        with log.open("wb") as out:
            self.process = psutil.Popen(
                command,
                cwd=SERVICE,
                env=settings,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=end_with_us(),
            )

    @property
    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        """Parse the log: each line is a JSON object or the test fails."""
        lines = [json.loads(line) for line in self.text.splitlines()]
        return lines if name is None else [line for line in lines if line["event"] == name]

    @property
    def master(self) -> int:
        return int(self.process.pid)

    def send(self, sig: signal.Signals) -> None:
        """Send a signal to the master."""
        self.process.send_signal(sig)

    def kill(self, *pids: int, sig: signal.Signals = signal.SIGKILL, times: int = 1) -> None:
        """Send a signal to some of its processes; the next time comes 0.2 s later."""
        for each in range(times):
            time.sleep(0.2 * bool(each))
            for pid in pids:
                os.kill(pid, sig)

    def lives(self, pid: int) -> bool:
        return lives(pid)

    def children(self) -> list[int]:
        """List the living children of the master."""
        with suppress(psutil.NoSuchProcess):
            return [child.pid for child in self.process.children() if lives(child.pid)]
        return []

    def booted(self) -> list[int]:
        """List every worker there ever was."""
        return [int(pid) for pid in re.findall(r"Booting worker with pid: (\d+)", self.text)]

    def workers(self) -> list[int]:
        """List the living workers."""
        return [pid for pid in self.booted() if self.lives(pid)]

    def exporters(self) -> list[int]:
        """List the living children of the master that are no workers."""
        return [pid for pid in self.children() if pid not in self.booted()]

    def get(self, path: str, *, timeout: float = 10) -> tuple[int, dict[str, str], bytes]:
        """Ask on a new connection."""
        with connected(self.port, timeout=timeout) as connection:
            return ask(connection, path)

    def pid(self, path: str = "/scenarios/pid", *, timeout: float = 10) -> int:
        """Ask which worker answers."""
        status, _, body = self.get(path, timeout=timeout)
        assert status == 200, body
        pid: int = json.loads(body)["pid"]
        return pid

    def answers(self) -> bool:
        with suppress(OSError, HTTPException):
            return self.get("/health", timeout=1)[0] == 200
        return False

    def metrics(self) -> dict[str, float]:
        """Scrape the exporter."""
        with connected(self.metrics_port, timeout=5) as connection:
            status, _, body = ask(connection, "/metrics")
        assert status == 200
        lines = [line for line in body.decode().splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}

    def scraped(self) -> dict[str, float]:
        with suppress(OSError, HTTPException):
            return self.metrics()
        return {}

    def wait_ready(self, workers: int) -> None:
        eventually(
            lambda: (
                len(self.events_so_far("service ready")) >= workers or not lives(self.process.pid)
            ),
            seconds=30,
            what=f"{workers} workers ready",
        )
        assert lives(self.process.pid), self.text

    def events_so_far(self, name: str) -> list[str]:
        return [line for line in self.text.splitlines() if f'"event": "{name}"' in line]

    def wait_end(self, *, seconds: float) -> int:
        status: int = self.process.wait(seconds)
        return status

    def end(self) -> None:
        """End everything that is left of it, children first noted."""
        family = [self.process.pid, *self.workers(), *self.exporters()]
        for pid in family:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with suppress(psutil.Error):
            self.process.wait(5)


def lives(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@contextmanager
def connected(port: int, *, timeout: float = 10) -> Iterator[HTTPConnection]:
    connection = HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        yield connection
    finally:
        connection.close()


def ask(
    connection: HTTPConnection, path: str, headers: Mapping[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    connection.request("GET", path, headers=headers or {})
    response: HTTPResponse = connection.getresponse()
    return response.status, dict(response.getheaders()), response.read()


def environment(database_url: str, **settings: object) -> dict[str, str]:
    """Return the environment of a short-lived service; None unsets a name."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(("COV", "HOME", "PATH", "TMP", "LANG", "VIRTUAL_ENV", "PYTHON"))
    }
    # The scenarios are modules of the library's tests.
    return kept | {"PYTHONPATH": str(REPOSITORY)} | settings_of(database_url, **settings)


def settings_of(database_url: str, **settings: object) -> dict[str, str]:
    """Return the settings of a short-lived service; None unsets a name."""
    base = {
        "APP_ENV": "production",
        "DATABASE_URL": database_url,
        "DATABASE_POOL_TIMEOUT_SECONDS": "0.5",
        "DATABASE_STATEMENT_TIMEOUT_MS": "500",
        "METRICS_PORT": ports.free(),
        "PORT": ports.free(),
        "PROCESS_POOL_TIMEOUT_SECONDS": 2,
        "PROCESS_POOL_WAIT_SECONDS": 1,
        "REQUEST_TIMEOUT_SECONDS": "3",
        "HTTP_CLIENT_POOL_TIMEOUT_SECONDS": "0.5",
        "HTTP_CLIENT_TOTAL_TIMEOUT_SECONDS": "3",
        "SHUTDOWN_SECONDS": "5",
        "UPLOAD_MIN_BYTES_PER_SECOND": 4 * 2**20,
        "WEB_CONCURRENCY": 2,
        "WORKER_TIMEOUT_SECONDS": 3,
    }
    merged = {**base, **settings}
    return {name: str(value) for name, value in merged.items() if value is not None}


GUNICORN = [sys.executable, "-m", "gunicorn", "--config", "gunicorn.conf.py"]
SCENARIOS = [*GUNICORN, "kit.tests.runtime.scenarios:create_app()"]
SERVE = [sys.executable, "-m", "app", "serve"]
