"""What a process of the pool does in these tests; it imports little, as such a module should."""

import os
import time

import structlog

log = structlog.get_logger()


def computation(seconds: float) -> int:
    log.info("computing")
    time.sleep(seconds)
    return os.getpid()
