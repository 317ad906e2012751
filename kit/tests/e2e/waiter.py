"""Waits until an address that cannot be reached can be: `python -c ... HOST PORT SECONDS`.

Prints "waiting" once it cannot, and when it can be reached again, in seconds since 1970.
"""

import socket
import sys
import time

# Each attempt is a connection of its own: one that began in vain may never learn that it could be.
ATTEMPT_SECONDS = 0.2
PAUSE_SECONDS = 0.05


def reachable(host: str, port: int) -> bool:
    """Tell whether somebody accepts a connection."""
    try:
        socket.create_connection((host, port), ATTEMPT_SECONDS).close()
    except OSError:
        return False
    return True


def main(host: str, port: int, seconds: float) -> None:
    """Wait for the end, then for the beginning; exit 1 when there is none in time."""
    give_up = time.monotonic() + seconds
    for wanted in (False, True):
        while reachable(host, port) is not wanted:
            if time.monotonic() > give_up:
                sys.exit(1)
            time.sleep(PAUSE_SECONDS)
        print(time.time() if wanted else "waiting", flush=True)  # noqa: T201 - the test reads it


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
