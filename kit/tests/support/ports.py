"""Ports of this machine."""

import errno
import secrets
import socket
import time
from contextlib import suppress

# Below those that the kernel gives to whoever connects or binds port 0: it would give one that is
# free now to somebody else before a service has started.
_PORTS = range(20_000, 32_000)


def free() -> int:
    """Return a port that nobody uses now."""
    while True:
        # Not of `random`, which Hypothesis seeds in every process alike.
        port = secrets.choice(_PORTS)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


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
