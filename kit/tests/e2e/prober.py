"""Try to open connections, and print as JSON what came of each: open, silent, or refused and how.

Runs in a pod; each argument is HOST:PORT. A policy drops what it does not let through.
"""

import json
import socket
import sys
import time

# As long as a policy and an address may take to arrive in a new pod.
SETTLE_SECONDS = 2.0
TIMEOUT_SECONDS = 2.0


def outcome(target: str) -> str:
    """Say what a connection to HOST:PORT comes to."""
    host, _, port = target.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=TIMEOUT_SECONDS):
            return "open"
    except TimeoutError:
        return "silent"
    except OSError as error:
        return f"refused, {error.strerror}"


if __name__ == "__main__":
    time.sleep(SETTLE_SECONDS)
    sys.stdout.write(json.dumps({target: outcome(target) for target in sys.argv[1:]}))
