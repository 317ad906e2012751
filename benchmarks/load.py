"""Closed-loop load: wrk with so many connections that the server never waits for a client."""

import re
import shutil
import subprocess
from dataclasses import dataclass

from benchmarks.servers import BenchError, Server

CONNECTIONS = 16
# A machine that stands still for a moment makes the service refuse some: then it is done again.
ATTEMPTS = 3
# What a request carries that came through a proxy.
HEADERS = {
    "Host": "shop.example.com",
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) wrk",
    "Accept": "application/json",
    "Accept-Encoding": "gzip, br",
    "X-Forwarded-For": "10.1.2.3",
    "X-Forwarded-Proto": "https",
}


@dataclass(frozen=True)
class Sample:
    """A few seconds of load."""

    requests_a_second: float
    cpu_microseconds: float


def measure(server: Server, path: str, *, seconds: int) -> Sample:
    """Load one path; raises `BenchError` for answers that are not 2xx, each time."""
    for attempt in range(ATTEMPTS):
        try:
            return _measure(server, path, seconds=seconds)
        except BenchError:
            if attempt == ATTEMPTS - 1:
                raise
    raise AssertionError("the last attempt is a sample or an error")


def _measure(server: Server, path: str, *, seconds: int) -> Sample:
    program = shutil.which("wrk")
    if program is None:
        raise BenchError("wrk is missing: install it (Debian package wrk)")
    headers = [part for name, text in HEADERS.items() for part in ("-H", f"{name}: {text}")]
    before = server.cpu_seconds()
    done = subprocess.run(
        [
            *(program, "-t1", "-c", str(CONNECTIONS), "-d", f"{seconds}s", *headers),
            f"http://127.0.0.1:{server.port}{path}",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    spent = server.cpu_seconds() - before
    found = re.search(r"(\d+) requests in", done.stdout)
    if found is None or "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        raise BenchError(f"{server.variant.name} failed under load:\n{done.stdout}")
    rate = re.search(r"Requests/sec: *([\d.]+)", done.stdout)
    assert rate is not None  # noqa: S101 (it follows the line that was found)
    return Sample(float(rate[1]), spent / int(found[1]) * 1e6)
