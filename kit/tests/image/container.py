"""A service in a container, as strict as a pod: read-only, without capabilities, never root."""

import json
import os
import signal
import subprocess
import sys
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from app import about
from kit.tests.runtime.harness import SERVE, Service
from kit.tests.support.paths import REPOSITORY
from slipway_kit.dev import image

NAME = os.environ.get("IMAGE") or image.default_name(about.IMAGE, about.VERSION)
USER = "10001:10001"
MEMORY = "/dev/shm:rw,mode=1777,size=64m"
# Run inside: the image has neither ps nor kill.
LIST = """
import json, os
found = {}
for name in os.listdir("/proc"):
    if name.isdigit() and int(name) != os.getpid():
        try:
            state, parent = open(f"/proc/{name}/stat").read().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        found[name] = [state, int(parent)]
print(json.dumps(found))
"""
CAUGHT = r"""
import re
print(re.search(r"SigCgt:\s*(\w+)", open("/proc/1/status").read())[1])
"""
KILL = """
import os, sys, time
sig, times, *pids = map(int, sys.argv[1:])
for each in range(times):
    time.sleep(0.2 * bool(each))
    for pid in pids:
        os.kill(pid, sig)
"""


def find_engine() -> str:
    """Return the engine that has the image and can run it."""
    for engine in ("docker", "podman"):
        if image.answers(engine) and call(engine, "image", "inspect", NAME).returncode == 0:
            return engine
    message = f"neither docker nor podman has {NAME}: `make image` builds and tests it"
    raise LookupError(message)


def call(engine: str, *arguments: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
    """Run a command of the engine to its end."""
    return subprocess.run(
        [engine, *arguments], capture_output=True, text=True, timeout=seconds, check=False
    )


def inspect(engine: str) -> dict[str, Any]:
    """Return the configuration that the image carries."""
    (found,) = json.loads(call(engine, "image", "inspect", NAME).stdout)
    config: dict[str, Any] = found["Config"]
    return config


def run_arguments(
    engine: str, settings: dict[str, str], *, user: str = USER, memory: tuple[str, ...] = (MEMORY,)
) -> list[str]:
    """Return what a strict pod asks of its runtime; `memory` holds the only places to write to."""
    tests = f"type=bind,source={REPOSITORY / 'kit/tests'},target=/app/kit/tests,readonly"
    return [
        *("--network", "host", "--user", user, "--read-only", "--cap-drop", "ALL"),
        *("--security-opt", "no-new-privileges", "--security-opt", "label=disable"),
        *(["--read-only-tmpfs=false"] if engine == "podman" else []),
        *(part for volume in memory for part in ("--tmpfs", volume)),
        *("--mount", tests),
        *(part for each in settings.items() for part in ("--env", "=".join(each))),
    ]


class Container(Service):
    """One running container; `command` is that of the image when it is SERVE."""

    def __init__(
        self, engine: str, log: Path, command: list[str], settings: dict[str, str], run: list[str]
    ) -> None:
        self.engine, self.name = engine, f"test-{uuid.uuid4().hex[:12]}"
        self.port, self.metrics_port = int(settings["PORT"]), int(settings["METRICS_PORT"])
        self.log = log
        python = "python" if command[0] == sys.executable else command[0]
        own = [] if command == SERVE else [python, *command[1:]]
        done = call(engine, "run", "--detach", "--name", self.name, *run, NAME, *own)
        assert done.returncode == 0, done.stderr
        with log.open("wb") as out:
            self.process = psutil.Popen(
                [engine, "logs", "--follow", self.name], stdout=out, stderr=subprocess.STDOUT
            )

    @property
    def master(self) -> int:
        return 1

    def send(self, sig: signal.Signals) -> None:
        done = call(self.engine, "kill", "--signal", sig.name, self.name)
        assert done.returncode == 0, done.stderr

    def kill(self, *pids: int, sig: signal.Signals = signal.SIGKILL, times: int = 1) -> None:
        # One command for all: to start one takes part of the time that a drain has.
        done = self.run_inside("python", "-c", KILL, *map(str, (int(sig), times, *pids)))
        assert done.returncode == 0, done.stderr

    def lives(self, pid: int) -> bool:
        return pid in self.living()

    def children(self) -> list[int]:
        return [pid for pid, parent in self.living().items() if parent == 1]

    def workers(self) -> list[int]:
        living = self.living()
        return [pid for pid in self.booted() if pid in living]

    def living(self) -> dict[int, int]:
        """Return the parent of each living process."""
        return {
            pid: parent for pid, (state, parent) in self.processes().items() if state not in "ZX"
        }

    def processes(self) -> dict[int, tuple[str, int]]:
        """Return state and parent of each process, zombies too; nothing when it has ended."""
        done = self.run_inside("python", "-c", LIST)
        listed: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {}
        return {int(pid): (state, parent) for pid, (state, parent) in listed.items()}

    def hears(self, sig: signal.Signals) -> bool:
        """Tell whether process 1 has a handler for `sig`; it loses the others."""
        done = self.run_inside("python", "-c", CAUGHT)
        return done.returncode == 0 and bool(int(done.stdout, 16) & 2 ** (sig - 1))

    def run_inside(self, *command: str) -> subprocess.CompletedProcess[str]:
        return call(self.engine, "exec", self.name, *command)

    def wait_end(self, *, seconds: float) -> int:
        done = call(self.engine, "wait", self.name, seconds=seconds)
        with suppress(psutil.TimeoutExpired):
            self.process.wait(5)
        return int(done.stdout)

    def end(self) -> None:
        call(self.engine, "kill", self.name)
        call(self.engine, "rm", "--force", self.name)
        with suppress(psutil.Error):
            self.process.kill()
        self.process.wait(5)
