"""A headless Chromium, driven by its DevTools protocol, that reaches this machine alone."""

import base64
import itertools
import json
import os
import signal
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from kit.tests.support import programs
from slipway_kit.dev.programs import end_with_us

# A name that no page takes for a laptop's own; it leads to this machine.
HOST = "games.example"
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-breakpad",
    "--disable-dev-shm-usage",
    "--remote-debugging-port=0",
    f"--host-resolver-rules=MAP {HOST} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
SECONDS = 20
# A page that is narrower is shown as a phone shows it.
PHONE = 600


@contextmanager
def open_browser() -> Iterator[str]:
    """Start a browser with an empty profile; give the address of its protocol."""
    program = programs.find("chromium", "google-chrome", package="chromium")
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name,
        _running([str(program), *FLAGS, f"--user-data-dir={name}", "about:blank"]) as process,
    ):
        yield f"http://127.0.0.1:{_port(Path(name) / 'DevToolsActivePort', process)}"


@contextmanager
def _running(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=end_with_us(),  # noqa: PLW1509 (it only makes system calls)
    )
    try:
        yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(SECONDS)
        # Its own session: what it left behind goes with it, and nobody else.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(SECONDS)


def _port(file: Path, process: subprocess.Popen[bytes]) -> str:
    give_up = time.monotonic() + SECONDS
    while not (file.exists() and file.read_text().strip()):
        assert process.poll() is None, f"the browser ended with {process.returncode}"
        assert time.monotonic() < give_up, "the browser does not start"
        time.sleep(0.05)
    return file.read_text().split()[0]


class Page:
    """One tab, with the address of every request that it made and all that went wrong in it."""

    def __init__(self, socket: ClientConnection) -> None:
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self._socket, self._numbers = socket, itertools.count()
        self._answers: dict[int, dict[str, Any]] = {}

    def visit(self, url: str) -> None:
        """Go to an address; the page loads meanwhile."""
        for domain in ("Network", "Page", "Runtime", "Log"):
            self._do(f"{domain}.enable")
        assert "errorText" not in self._do("Page.navigate", url=url)

    def asked_of_others(self, origin: str) -> list[str]:
        """List the requests that left `origin`, apart from pictures written into the page."""
        own = ("data:", f"{origin}/", f"blob:{origin}/")
        return [url for url in self.requests if not url.startswith(own)]

    def ask(self, script: str) -> Any:
        """Return the value of a JavaScript expression, or what its promise comes to."""
        how = {"returnByValue": True, "awaitPromise": True}
        answer = self._do("Runtime.evaluate", expression=script, **how)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, script: str) -> Any:
        """Return the first truthy value of an expression."""
        give_up = time.monotonic() + SECONDS
        while not (value := self.ask(script)):
            assert time.monotonic() < give_up, (script, self.complaints[:5], self.ask(TEXT))
            time.sleep(0.05)
        return value

    def click(self, selector: str) -> None:
        """Click on the first such element, once it is there."""
        element = f"document.querySelector({json.dumps(selector)})"
        self.wait(f"Boolean({element})")
        self.ask(f"{element}.click()")

    def look(self, *, width: int, dark: bool) -> None:
        """Be so many pixels wide, as a phone is below 600, in a light or a dark scheme."""
        size = {"width": width, "height": 844, "deviceScaleFactor": 1}
        self._do("Emulation.setDeviceMetricsOverride", **size, mobile=width < PHONE)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._do("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self) -> bytes:
        """Return what is in view as a PNG."""
        return base64.b64decode(self._do("Page.captureScreenshot", format="png")["data"])

    def _do(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        self._socket.send(json.dumps(message))
        while number not in self._answers:
            self._note(json.loads(self._socket.recv(timeout=SECONDS)))
        answer = self._answers.pop(number)
        assert "result" in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def _note(self, message: dict[str, Any]) -> None:
        event = message.get("params", {})
        match message.get("method"):
            case None:
                self._answers[message["id"]] = message
            case "Network.requestWillBeSent":
                self.requests.append(event["request"]["url"])
            case "Network.loadingFailed" | "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(event))
            case "Runtime.consoleAPICalled" if event["type"] in {"error", "warning"}:
                self.complaints.append(json.dumps(event["args"]))
            case "Log.entryAdded" if event["entry"]["level"] in {"error", "warning"}:
                self.complaints.append(json.dumps(event["entry"]))


TEXT = "document.body.innerText"


@contextmanager
def open_page(browser: str) -> Iterator[Page]:
    """Open an empty tab."""
    request = urllib.request.Request(f"{browser}/json/new?about:blank", method="PUT")
    with urllib.request.urlopen(request, timeout=SECONDS) as response:
        address = json.load(response)["webSocketDebuggerUrl"]
    with connect(address, max_size=None, proxy=None) as socket:
        yield Page(socket)
