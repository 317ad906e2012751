"""One real start of the service: processes, ports, a request, SIGTERM."""

import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path

from slipway_kit.dev.programs import end_with_us, free_port

# Seconds that the start and the end may take, on a machine that is busy with other things.
PATIENCE_SECONDS = 40.0
# Lines of the log that a failure shows.
SHOWN_LINES = 30
# Names that the processes need of the environment of a test.
KEPT = ("COV", "HOME", "LANG", "PATH", "PYTHON", "TMP", "VIRTUAL_ENV")
SETTINGS = {
    "APP_ENV": "production",
    "HTTP_CLIENT_POOL_TIMEOUT_SECONDS": "0.5",
    "HTTP_CLIENT_TOTAL_TIMEOUT_SECONDS": "3",
    "REQUEST_TIMEOUT_SECONDS": "3",
    "DATABASE_STATEMENT_TIMEOUT_MS": "500",
    "DATABASE_POOL_TIMEOUT_SECONDS": "0.5",
    "PROCESS_POOL_TIMEOUT_SECONDS": "2",
    "PROCESS_POOL_WAIT_SECONDS": "1",
    "SHUTDOWN_SECONDS": "5",
    "UPLOAD_MIN_BYTES_PER_SECOND": "4194304",
    "WEB_CONCURRENCY": "1",
}


def start(
    service: Path,
    database_url: str,
    *,
    path: str = "/readyz",
    settings: Mapping[str, str] | None = None,
) -> list[str]:
    """Serve the folder `service` as production does, ask for `path`, and send SIGTERM.

    Returns what went wrong: no 200 in time, an exit status that is not 0, an error in the log.
    """
    port = free_port()
    own = {"DATABASE_URL": database_url, "PORT": str(port), "METRICS_PORT": str(free_port())}
    kept = {name: value for name, value in os.environ.items() if name.startswith(KEPT)}
    with tempfile.TemporaryFile("w+b") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "app", "serve"],
            cwd=service,
            env=kept | SETTINGS | own | dict(settings or {}),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=end_with_us(),  # noqa: PLW1509 (it only makes system calls)
        )
        try:
            faults = [*_asked(process, port, path), *_ended(process)]
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        log.seek(0)
        text = log.read().decode(errors="replace")
    last = "\n".join(text.splitlines()[-SHOWN_LINES:])
    return [*faults, *_logged(text)] + ([f"the end of its log:\n{last}"] if faults else [])


def _asked(process: subprocess.Popen[bytes], port: int, path: str) -> list[str]:
    give_up = time.monotonic() + PATIENCE_SECONDS
    status = None
    while process.poll() is None and time.monotonic() < give_up:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        with suppress(OSError, http.client.HTTPException):
            connection.request("GET", path)
            status = connection.getresponse().status
        connection.close()
        if status == HTTPStatus.OK:
            return []
        time.sleep(0.1)
    return [f"GET {path} was not answered with 200: {status or 'no answer'}"]


def _ended(process: subprocess.Popen[bytes]) -> list[str]:
    process.send_signal(signal.SIGTERM)
    try:
        status = process.wait(PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        return [f"it did not leave within {PATIENCE_SECONDS:g} s of SIGTERM"]
    return [f"it left with status {status} instead of 0"] if status else []


def _logged(text: str) -> Iterator[str]:
    for line in text.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            yield f"a line of the log is no JSON: {line}"
            continue
        if entry.get("level") in {"error", "critical"}:
            yield f"the log tells of an error: {line}"
        if entry.get("event") == "fast paths" and entry["off"]:
            yield f"shortcuts are off, for they do not know these libraries: {entry['off']}"
