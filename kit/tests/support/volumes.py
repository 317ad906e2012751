"""Small volumes in memory, which can be filled."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class CannotMountError(Exception):
    """This machine lets nobody mount; the text says why."""


@contextmanager
def mounted(folder: Path, *, kib: int) -> Iterator[Path]:
    """Mount a volume of so many KiB at `folder`, which is made."""
    folder.mkdir()
    root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    options = ["-t", "tmpfs", "-o", f"size={kib}k,mode=1777", "tmpfs", str(folder)]
    try:
        subprocess.run([*root, "mount", *options], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise CannotMountError(f"mounting a small volume needs Linux and root: {error}") from error
    try:
        yield folder
    finally:
        subprocess.run([*root, "umount", "--lazy", str(folder)], check=True)


@contextmanager
def volume(folder: Path, *, kib: int) -> Iterator[Path]:
    """Mount a volume; where that cannot be the test is skipped, or fails where CI=true."""
    try:
        with mounted(folder, kib=kib) as found:
            yield found
    except CannotMountError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))


def fill(folder: Path) -> Path:
    """Leave no room; return the file that takes it."""
    room, file = os.statvfs(folder), folder / "full"
    with file.open("ab") as full:
        full.write(b"x" * (room.f_bavail * room.f_frsize))
    return file
