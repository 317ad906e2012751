"""When a worker leaves to be replaced, one at a time."""

import fcntl
import tempfile
from typing import IO

from slipway_kit.metrics.folder import memory_folder


class RecyclingLock:
    """Held by the one worker that is leaving; the kernel takes it back when that process ends."""

    def __init__(self) -> None:
        folder = memory_folder()
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (open for the life of the process)

    def take(self) -> bool:
        """Return whether it is this process's turn now."""
        try:
            # A record lock belongs to the process, though all workers inherit the same file.
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True


class Recycling:
    """Tells a worker that it has served enough."""

    def __init__(self, max_requests: int, turn: RecyclingLock) -> None:
        self._max_requests, self._turn = max_requests, turn

    def due(self, requests: int) -> bool:
        """Return whether the worker should leave now; asked often, as others may be leaving."""
        return 0 < self._max_requests <= requests and self._turn.take()
