"""Whether others had the core: only then is a wait nobody's overload."""

import os


class CpuSteal:
    """How many seconds this thread has waited for a core that others had; 0 where nobody tells.

    Linux does, for the thread that asks first.
    """

    def __init__(self) -> None:
        self._file: int | None = None

    def __call__(self) -> float:
        """Return it."""
        try:
            if self._file is None:
                self._file = os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)
            return int(os.pread(self._file, 80, 0).split()[1]) / 1e9
        except (OSError, IndexError, ValueError):
            return 0.0
