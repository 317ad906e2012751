"""Servers under test: one worker each, on a core of its own, with its CPU time."""

import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tools.processes import end_with_us, free_port, stop_group

START_SECONDS = 30.0
STOP_SECONDS = 40.0
LOOK_SECONDS = 0.01
NANOSECONDS, KIB_A_MIB = 1e9, 1024
# Servers have the first core, and everything that asks them or reads what they write the last.
CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, CLIENT_CORE = CORES[0], CORES[-1]


class BenchError(Exception):
    """Nothing can be measured; the text says why."""


@dataclass(frozen=True)
class Variant:
    """A way to serve: a command in a folder, which listens on the port in the variable PORT."""

    name: str
    command: tuple[str, ...]
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    tls: bool = False


@dataclass(frozen=True)
class Server:
    """A variant that runs."""

    variant: Variant
    port: int
    group: int

    @property
    def processes(self) -> list[int]:
        """The processes of the server, which are one group."""
        return [pid for pid in _all() if _group(pid) == self.group]

    def cpu_seconds(self) -> float:
        """Return the CPU time that all of them have had since they began."""
        threads = (task for pid in self.processes for task in _tasks(pid))
        return sum(_on_cpu(task) for task in threads) / NANOSECONDS

    def memory_mib(self) -> float:
        """Return the memory that all of them hold."""
        return sum(proportional_mib(pid) for pid in self.processes)


def proportional_mib(pid: int) -> float:
    """Return the memory of a process, of a page shared by several its part."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    (found,) = (line.split()[1] for line in lines if line.startswith("Pss:"))
    return int(found) / KIB_A_MIB


def reserve_core() -> None:
    """Keep this process, and what it starts, off the servers' core."""
    if SERVER_CORE == CLIENT_CORE:
        raise BenchError("two cores are needed: one for the server and one for its clients")
    os.sched_setaffinity(0, {CLIENT_CORE})


@contextmanager
def running(variant: Variant) -> Iterator[Server]:
    """Run a server; what it logs is read and thrown away, as a node's agent would read it."""
    port = free_port()
    with ExitStack() as stack:
        reader = stack.enter_context(
            subprocess.Popen([_program("cat")], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        )
        process = subprocess.Popen(
            [part.replace("{port}", str(port)) for part in variant.command],
            cwd=variant.folder,
            env={**os.environ, **variant.environment, "PORT": str(port)},
            stdout=reader.stdin,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=partial(_begin, end_with_us()),  # noqa: PLW1509 (no threads here)
        )
        stack.callback(stop_group, process, seconds=STOP_SECONDS)
        if not _answers_in_time(process, port, tls=variant.tls):
            command = " ".join(variant.command)
            raise BenchError(f"{variant.name} does not answer: {command}")
        yield Server(variant, port, process.pid)


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise BenchError(f"{name} is missing")
    return found


def _begin(end_with_us: Callable[[], None]) -> None:
    end_with_us()
    os.sched_setaffinity(0, {SERVER_CORE})


def answers(port: int, *, seconds: float, tls: bool = False) -> bool:
    """Tell whether somebody answers there in time, whatever it is."""
    with suppress(OSError), ExitStack() as stack:
        probe = stack.enter_context(socket.create_connection(("127.0.0.1", port), seconds))
        if tls:
            probe = stack.enter_context(_whatever_certificate().wrap_socket(probe))
        probe.sendall(b"GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
        return bool(probe.recv(1))
    return False


def _whatever_certificate() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _answers_in_time(process: subprocess.Popen[bytes], port: int, *, tls: bool) -> bool:
    give_up = time.monotonic() + START_SECONDS
    while time.monotonic() < give_up and process.poll() is None:
        if answers(port, seconds=5, tls=tls):
            return True
        time.sleep(LOOK_SECONDS)
    return False


def _all() -> Iterator[int]:
    return (int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit())


def _group(pid: int) -> int | None:
    with suppress(ProcessLookupError):
        return os.getpgid(pid)
    return None


def _tasks(pid: int) -> list[Path]:
    with suppress(OSError):
        return list(Path(f"/proc/{pid}/task").iterdir())
    return []


def _on_cpu(task: Path) -> int:
    with suppress(OSError):
        return int((task / "schedstat").read_text().split()[0])
    return 0
