"""Scaffold a service from the defaults, run it, and show that it answers as it should.

    python -m tools.demo [EXPECTATIONS]

Serves until Ctrl-C; with CI=true it ends after the requests. Exits 1 when an answer is not the one
expected in tools/demo.toml. Nothing is left behind: no process, no port, no file.
"""

import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import httpx2
from websockets.sync.client import connect

from tools.processes import end_with_us, stop_group
from tools.scaffolding import scaffold

TEMPLATE = Path(__file__).resolve().parents[1]
EXPECTATIONS = TEMPLATE / "tools" / "demo.toml"
WORKERS = 2
START_SECONDS = 60
STOP_SECONDS = 40
REQUEST_SECONDS = 10
WEB_SOCKET = 101


class DemoError(Exception):
    """The service did not come up; the text says why."""


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


def free_port(wanted: int) -> int:
    """Return `wanted`, or a free port when somebody listens there."""
    for port in (wanted, 0):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            found = int(probe.getsockname()[1])
            if found != wanted:
                say(f"Port {wanted} is taken; using {found}")
            return found
    message = "no port of 127.0.0.1 is free"
    raise DemoError(message)


@contextmanager
def serving(service: Path, environment: dict[str, str], log: Path) -> Iterator[None]:
    """Run the service under gunicorn, ready when the block begins, gone when it ends."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "app", "serve"],
            cwd=service,
            env=environment,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=end_with_us(),  # noqa: PLW1509 (it only makes system calls)
        )
    try:
        wait_until_ready(process, f"http://127.0.0.1:{environment['PORT']}/readyz", log)
        yield
    finally:
        stop_group(process, seconds=STOP_SECONDS)


def wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Return when `url` answers 200, or raise with the end of the log."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(httpx2.TransportError):
            if httpx2.get(url, timeout=REQUEST_SECONDS).is_success:
                return
        time.sleep(0.1)
    lines = log.read_text(errors="replace").splitlines()[-20:]
    raise DemoError("the service did not become ready:\n" + "\n".join(lines))


def ask(request: dict[str, Any], port: int) -> tuple[int, str]:
    """Send one request and return the status and the text of its answer."""
    path = request["path"]
    if request["method"] == "WS":
        with connect(f"ws://127.0.0.1:{port}{path}", open_timeout=REQUEST_SECONDS) as till:
            till.send(request["send"])
            return WEB_SOCKET, str(till.recv(timeout=REQUEST_SECONDS))
    file = request.get("file")
    answer = httpx2.request(
        request["method"],
        f"http://127.0.0.1:{port}{path}",
        json=request.get("json"),
        files={"file": ("games.csv", file, "text/csv")} if file else None,
        timeout=REQUEST_SECONDS,
    )
    return answer.status_code, answer.text


def as_expected(request: dict[str, Any], status: int, text: str) -> bool:
    """Return whether an answer is the one that `request` expects."""
    if status != request["status"]:
        return False
    if "text" in request:
        return text.strip() == str(request["text"]).strip()
    if "body" in request:
        return bool(json.loads(text) == request["body"])
    expected: dict[str, Any] = request.get("has", {})
    return not expected or expected.items() <= json.loads(text).items()


def settle(request: dict[str, Any], port: int) -> tuple[int, str]:
    """Ask until the answer is the one expected, for some seconds if it may come `soon`."""
    deadline = time.monotonic() + (REQUEST_SECONDS if request.get("soon") else 0)
    while True:
        status, text = ask(request, port)
        if as_expected(request, status, text) or time.monotonic() > deadline:
            return status, text
        time.sleep(0.1)


def send_all(requests: list[dict[str, Any]], port: int) -> int:
    """Send every request, print a line for each and return how many failed."""
    failed = 0
    say(f"\n  {'':4} {'request':34} {'':17} answer")
    for request in requests:
        status, text = settle(request, port)
        good = as_expected(request, status, text)
        failed += not good
        shown = " ".join(text.split())
        what = f"{request['method']} {request['path']}"
        say(f"  {'ok' if good else 'FAIL':4} {what:34} {request['does']:17} {status} {shown[:70]}")
        if not good:
            say(f"       expected {json.dumps(request)}\n       answered {shown}")
    say(f"\n  {len(requests) - failed} of {len(requests)} answers are as expected")
    return failed


def demonstrate(requests: list[dict[str, Any]]) -> int:
    """Do it all and return how many answers were not as expected."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="demo-")))
        say("Scaffolding a service from the defaults")
        service = scaffold(TEMPLATE, folder / "services")
        say("Starting the embedded PostgreSQL")
        # The service's own copy of the library, as `make run` in it would use.
        sys.path.insert(0, str(service))
        postgres = importlib.import_module("slipway_kit.dev.postgres")
        url = stack.enter_context(postgres.open_postgres())
        port, metrics_port = free_port(8000), free_port(9000)
        environment = os.environ | {
            "DATABASE_URL": url,
            "HOST": "127.0.0.1",
            "PORT": str(port),
            "METRICS_PORT": str(metrics_port),
            "WEB_CONCURRENCY": str(WORKERS),
        }
        say("Migrating")
        subprocess.run(
            [sys.executable, "-m", "app", "migrate"], cwd=service, env=environment, check=True
        )
        say(f"Starting gunicorn with {WORKERS} workers")
        stack.enter_context(serving(service, environment, folder / "log"))
        stack.callback(say, "Stopping")
        failed = send_all(requests, port)
        say(f"\n  API docs  http://127.0.0.1:{port}/docs")
        say(f"  health    http://127.0.0.1:{port}/health")
        say(f"  metrics   http://127.0.0.1:{metrics_port}/metrics\n")
        if not failed and os.environ.get("CI") != "true":
            say("Serving until Ctrl-C")
            signal.pause()
    return failed


def leave(*_: object) -> NoReturn:
    """End on a signal the way Ctrl-C does."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    # Also where a shell started it in the background, which ignores SIGINT.
    signal.signal(signal.SIGINT, leave)
    signal.signal(signal.SIGTERM, leave)
    wanted = Path(sys.argv[1]) if len(sys.argv) > 1 else EXPECTATIONS
    try:
        wrong = demonstrate(tomllib.loads(wanted.read_text(encoding="utf-8"))["request"])
    except KeyboardInterrupt:
        sys.exit(0)
    except (DemoError, subprocess.CalledProcessError) as problem:
        sys.exit(f"error: {problem}")
    if wrong:
        sys.exit(f"error: {wrong} answers were not as expected")
