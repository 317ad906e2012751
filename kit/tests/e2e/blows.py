"""Strikes a process of the container that this runs in: `python -c ... worker|first NUMBER`.

`worker` gets the signal NUMBER; process 1 is killed by the kernel once it has used more seconds of
CPU than NUMBER, for it takes no SIGKILL from within its container. Prints who is struck and when.
"""

import os
import resource
import signal
import sys
import time
from pathlib import Path


def parent(pid: int) -> int:
    """Return the parent of a process, 0 when it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    return int(stat.rpartition(")")[2].split()[1])


def pages(pid: int) -> int:
    """Return how much memory a process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1])


def workers() -> list[int]:
    """Return the children of process 1 that hold more memory than the smallest, the exporter."""
    pids = [int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit()]
    return sorted((pid for pid in pids if parent(pid) == 1), key=pages)[1:]


def main(whom: str, number: int) -> None:
    """Strike."""
    if whom == "worker":
        victim = workers()[-1]
        print(victim, time.time(), flush=True)  # noqa: T201 - the test reads it
        os.kill(victim, number)
        return
    print(1, time.time(), flush=True)  # noqa: T201 - the same
    resource.prlimit(1, resource.RLIMIT_CPU, (number, number))
    # The kernel looks while process 1 works: let it look for children, again and again.
    while True:
        os.kill(1, signal.SIGCHLD)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
