"""CPU steal: time in which this thread could run, but others had its core."""

import os


class CpuSteal:
    """Returns the seconds that the first thread to call it has waited for a core.

    Linux alone reports them; elsewhere they are 0.
    """

    def __init__(self) -> None:
        self._file: int | None = None

    def __call__(self) -> float:
        """Return the total since the thread began."""
        try:
            if self._file is None:
                self._file = os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)
            return int(os.pread(self._file, 80, 0).split()[1]) / 1e9
        except (OSError, IndexError, ValueError):
            return 0.0
