"""Recycling: workers are replaced after so many requests, one at a time."""

import fcntl
import tempfile
from typing import IO

from slipway_kit.metrics.folder import memory_folder


class RecyclingLock:
    """Held by the one worker that is being recycled; the kernel releases it when that one exits."""

    def __init__(self) -> None:
        folder = memory_folder()
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (open for the life of the process)

    def acquire(self) -> bool:
        """Take the lock, or return false while another worker holds it."""
        try:
            # A record lock belongs to the process, though all workers inherit the same file.
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True


class Recycling:
    """Decides when a worker is recycled."""

    def __init__(self, max_requests: int, lock: RecyclingLock) -> None:
        self._max_requests, self._lock = max_requests, lock

    def due(self, requests: int) -> bool:
        """Tell whether the worker, after so many requests, is to be recycled now."""
        return 0 < self._max_requests <= requests and self._lock.acquire()
