"""Ports of this machine."""

import errno
import socket
import time

from slipway_kit.dev import programs

free = programs.free_port


def wait_open(port: int, *, seconds: float = 10) -> None:
    """Return when somebody accepts connections on `port`."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def has_ipv6() -> bool:
    """Tell whether this machine's loopback speaks IPv6."""
    with socket.socket(socket.AF_INET6) as probe:
        return probe.connect_ex(("::1", 9)) in {0, errno.ECONNREFUSED}
