"""Recycling: workers are replaced after so many requests, one at a time."""

import fcntl
import tempfile
from typing import IO

from slipway_kit.metrics.folder import memory_folder


class Recycling:
    """Decides when a worker is recycled, with a lock that the worker holds until it exits.

    The master creates it: all workers inherit the same file.
    """

    def __init__(self) -> None:
        folder = memory_folder()
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (open for the life of the process)

    def due(self, requests: int, maximum: int) -> bool:
        """Tell whether a worker that served so many requests is to be recycled now; 0 is never."""
        return 0 < maximum <= requests and self._acquire()

    def _acquire(self) -> bool:
        try:
            # A record lock belongs to the process, and the kernel releases it with the process.
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True
