"""Other programs: where they are, and one sentence when they are missing or fail."""

import errno
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from slipway_kit.system import die_with_parent

# As much of a command as names what was asked.
SHOWN_WORDS = 4
# Below those that the kernel gives to whoever connects or binds port 0: it would give one that is
# free now to somebody else before a program listens there.
_PORTS = range(20_000, 32_000)

Run = Callable[..., str]


class ProgramError(Exception):
    """A program is missing, or did not do its work; the text says what to do."""


def end_with_us() -> Callable[[], None]:
    """Return the `preexec_fn` of a program that gets SIGTERM when this process has ended.

    The kernel looks at the thread that starts it, which has to live as long as this process.
    """
    return partial(die_with_parent, signal.SIGTERM, parent=os.getpid())


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody uses now."""
    while True:
        # Not of `random`, which Hypothesis seeds in every process alike.
        port = secrets.choice(_PORTS)
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            return port


def find(name: str) -> str | None:
    """Return the path of a program: the one that `make setup` installed beside Python first."""
    # Not resolved: Python in a virtual environment is a link to one outside of it.
    folders = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return shutil.which(name, path=folders)


def run(command: list[str], stdin: str = "", *, seconds: float = 600) -> str:
    """Run a command to its end and return its output; what it says of errors is for the reader.

    Raises `ProgramError` when it is missing, fails, or takes longer than `seconds`.
    """
    shown = shlex.join(command[:SHOWN_WORDS]) + (" ..." if len(command) > SHOWN_WORDS else "")
    program = find(command[0])
    if program is None:
        raise ProgramError(f"{command[0]} is missing: install it.")
    try:
        done = subprocess.run(
            [program, *command[1:]],
            input=stdin,
            stdout=subprocess.PIPE,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ProgramError(f"{shown} did not end within {seconds:g} s.") from None
    if done.returncode:
        sys.stderr.write(done.stdout)
        raise ProgramError(f"{shown} failed; its last lines say why.")
    return done.stdout
