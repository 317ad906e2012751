"""What is checked before the start: ports that are free, and one version of the library."""

import errno
import socket
import time
from importlib import metadata
from pathlib import Path

from slipway_kit import __version__
from slipway_kit.clock import now
from slipway_kit.errors import SettingsError

# The workers of a master that was just killed need a moment to release the port.
RETRY_SECONDS = 2.0
_PAUSE_SECONDS = 0.1


def listen(
    host: str, port: int, *, setting: str, retry_seconds: float = RETRY_SECONDS
) -> socket.socket:
    """Listen on a port; if it is taken, raise `SettingsError` that names the variable `setting`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    deadline = now() + retry_seconds
    while True:
        listener = socket.socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(16)
        except OSError as error:
            listener.close()
            taken = error.errno == errno.EADDRINUSE
            if taken and now() < deadline:
                time.sleep(_PAUSE_SECONDS)
                continue
            reason = (
                "is in use by another process" if taken else f"cannot be bound ({error.strerror})"
            )
            raise SettingsError(
                f"{host} port {port} {reason}: set {setting} to a free one or end that process."
            ) from None
        return listener


def require_free(host: str, port: int, *, setting: str) -> None:
    """Raise `SettingsError` unless the port is free."""
    listen(host, port, setting=setting).close()


def require_one_version() -> None:
    """Raise `SettingsError` when another version is installed beside this one.

    The working directory would decide which of them a process imports.
    """
    for found in metadata.distributions(name="slipway-kit"):
        if found.version != __version__:
            raise SettingsError(
                f"slipway-kit {found.version} is installed beside {__version__} in"
                f" {Path(__file__).parents[1]}: uninstall it, or delete that folder."
            )
