"""What is checked before the start: ports that are free, and one version of the library."""

import errno
import os
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
    family, dual = socket.AF_INET, False
    if ":" in host:
        family, dual = socket.AF_INET6, socket.has_dualstack_ipv6()
    give_up = now() + retry_seconds
    while True:
        try:
            return socket.create_server(
                (host, port), family=family, backlog=16, dualstack_ipv6=dual
            )
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            if not taken or now() >= give_up:
                why = f"cannot be bound ({os.strerror(error.errno or 0)})"
                if taken:
                    why = "is in use by another process"
                raise SettingsError(
                    f"{host} port {port} {why}: set {setting} to a free one or end that process."
                ) from None
        time.sleep(_PAUSE_SECONDS)


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
