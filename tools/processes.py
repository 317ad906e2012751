"""Processes that the tools and the benchmarks start."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "kit" / "src"))

from slipway_kit.dev.programs import end_with_us, free_port

__all__ = ["end_with_us", "free_port", "stop_group"]


def stop_group(process: subprocess.Popen[bytes], *, seconds: float) -> None:
    """Ask a process to end, and kill all of its group that is left after `seconds`.

    A worker must not outlive a master that had to be killed.
    """
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
