"""`python -m app`: serve, migrate, print settings, capacity or the OpenAPI document."""

import os
import signal
import sys

if __name__ == "__main__":
    # Process 1 of a container ignores signals without a handler, and the imports take a while.
    # `os._exit`, because a callback could swallow an exception. Nothing needs to be closed: the
    # database rolls back an open transaction, and the next start cleans the metrics folder.
    # An interrupted migration must not exit with 0.
    status = 0 if "serve" in sys.argv else 128 + signal.SIGTERM
    signal.signal(signal.SIGTERM, lambda *_: os._exit(status))

from app import about
from app.settings import Settings
from slipway_kit.service import cli


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status."""
    return cli.main(Settings, about, arguments)


if __name__ == "__main__":
    sys.exit(main())
