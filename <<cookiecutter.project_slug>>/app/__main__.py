"""`python -m app`: serve, migrate, print settings, capacity or the API's document."""

import os
import signal
import sys

if __name__ == "__main__":
    # As process 1 of a container a signal without a handler is lost, and imports take a while.
    # An exception could be lost in a callback, or become another one; nothing needs to be closed:
    # the database takes an open transaction back, the next start sweeps an unused metrics folder.
    # A migration that was cut off is none that was done.
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
