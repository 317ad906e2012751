"""How long a service takes to start and to replace a worker, and how much memory it holds."""

import os
import signal
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import load, services
from benchmarks.report import Row
from benchmarks.servers import BenchError, Server, answers, proportional_mib, running

PATH = "/api/v1/items/5?q=3"
WORKERS = 2
GIVE_UP_SECONDS = 30.0
LOOK_SECONDS = 0.005


def run(service: Path, *, passes: int) -> list[Row]:
    """Start the service so often, and kill a worker of it each time."""
    variant = services.full(service, "the service", settings={"WEB_CONCURRENCY": str(WORKERS)})
    starts, replaced, memory = [], [], []
    for _ in range(passes):
        began = time.perf_counter()
        with running(variant) as server:
            starts.append(time.perf_counter() - began)
            load.measure(server, PATH, seconds=1)
            memory.append(statistics.mean(proportional_mib(pid) for pid in workers(server)))
            replaced.append(_replacement(server))
    return [
        _row("start to the first answer", starts, "s"),
        _row("a killed worker until its successor is ready", replaced, "s"),
        _row("memory of one of two workers, its share of pages counted", memory, "MiB"),
    ]


def workers(server: Server) -> list[int]:
    """Return the processes that have a listening socket and a parent that is the server's."""
    return [
        pid
        for pid in server.processes
        if _parent(pid) == server.group and "exporter" not in _command(pid)
    ]


def _replacement(server: Server) -> float:
    before = set(workers(server))
    began = time.perf_counter()
    os.kill(min(before), signal.SIGKILL)
    _until(lambda: len(set(workers(server)) - before) == 1)
    (new,) = set(workers(server)) - before
    # It is ready when the other one may stand still and requests are answered.
    for pid in before & set(workers(server)):
        os.kill(pid, signal.SIGSTOP)
    try:
        _until(lambda: answers(server.port, seconds=1))
    finally:
        for pid in before & set(workers(server)):
            os.kill(pid, signal.SIGCONT)
    assert new in workers(server)  # noqa: S101 (else nobody could have answered)
    return time.perf_counter() - began


def _until(true: Callable[[], bool]) -> None:
    give_up = time.monotonic() + GIVE_UP_SECONDS
    while not true():
        if time.monotonic() > give_up:
            raise BenchError("no worker took the place of the one that was killed")
        time.sleep(LOOK_SECONDS)


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


def _row(name: str, values: list[float], unit: str) -> Row:
    shown = [round(value, 3) for value in values]
    return Row(name, "", round(statistics.median(shown), 3), unit, None, counts={"shares": shown})
