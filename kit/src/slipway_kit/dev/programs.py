"""Other programs: where they are, and one sentence when they are missing or fail."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from slipway_kit.system import die_with_parent

# As much of a command as names what was asked.
SHOWN_WORDS = 4

Run = Callable[..., str]


class ProgramError(Exception):
    """A program is missing, or did not do its work; the text says what to do."""


def end_with_us() -> Callable[[], None]:
    """Return the `preexec_fn` of a program that gets SIGTERM when this process has ended.

    The kernel looks at the thread that starts it, which has to live as long as this process.
    """
    return partial(die_with_parent, signal.SIGTERM, parent=os.getpid())


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
