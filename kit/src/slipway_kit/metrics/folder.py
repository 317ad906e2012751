"""The folder of the metric files of one master."""

import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import IO

from slipway_kit.errors import SettingsError

_MARKER = "metrics-of-one-service"


class MetricsFolder:
    """The folder, locked while a process of its master runs."""

    def __init__(self, path: Path, lock: IO[bytes], *, temporary: bool) -> None:
        self.path = path
        self._lock, self._temporary = lock, temporary

    @classmethod
    def claim(cls, given: str | None, *, slug: str) -> "MetricsFolder":
        """Lock and empty the given folder, or create a temporary one in memory.

        Raises `SettingsError` when the folder holds other files or another master uses it. Stale
        folders of killed masters are removed.
        """
        if given:
            path = Path(given)
            try:
                path.mkdir(parents=True, exist_ok=True)
                lock = _lock(path)
            except OSError as error:
                raise SettingsError(
                    f"PROMETHEUS_MULTIPROC_DIR={path} cannot be used: {error.strerror}."
                ) from None
            return cls(path, lock, temporary=False)
        base = memory_folder()
        _remove_stale(base, slug)
        # Locked before it gets a name that another master may remove.
        new = Path(tempfile.mkdtemp(prefix=f".{slug}-", dir=base))
        lock = _lock(new)
        path = new.rename(base / f"{slug}-metrics{new.name.removeprefix(f'.{slug}')}")
        return cls(path, lock, temporary=True)

    def release(self) -> None:
        """Unlock the folder; remove a temporary one."""
        if self._temporary:
            shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


def _lock(path: Path) -> IO[bytes]:
    marker = path / _MARKER
    if not marker.exists() and any(path.iterdir()):
        raise SettingsError(
            f"PROMETHEUS_MULTIPROC_DIR={path} holds other files: give it an empty folder."
        )
    lock = marker.open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise SettingsError(
            f"PROMETHEUS_MULTIPROC_DIR={path} is taken: give each service a folder of its own."
        ) from None
    for file in path.iterdir():
        if file.name != _MARKER:
            file.unlink()
    return lock


def _remove_stale(base: Path, slug: str) -> None:
    for marker in base.glob(f"{slug}-metrics-*/{_MARKER}"):
        try:
            _lock(marker.parent).close()
            shutil.rmtree(marker.parent)
        except (SettingsError, OSError):
            continue


def memory_folder(shared: Path = Path("/dev/shm")) -> Path:  # noqa: S108 (memory, where it exists)
    """Return a folder in memory if there is one, else the temporary folder.

    Raises `SettingsError` when neither is writable, as in a container with a read-only root file
    system and no volume.
    """
    if os.access(shared, os.W_OK | os.X_OK):
        return shared
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:
        raise SettingsError(
            f"no folder can be written: mount a volume in memory at {shared} or /tmp,"
            " or set TMPDIR to the path of one."
        ) from None
