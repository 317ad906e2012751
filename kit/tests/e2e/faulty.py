"""Ways to break a worker from inside; a pod of the tests has this file as sitecustomize.py.

Python imports that at its start, and forked workers keep the handlers: gunicorn does not know
these signals.
"""

import signal
import time
from types import FrameType

HANG, HOG = signal.SIGRTMIN, signal.SIGRTMIN + 1
_HOURS = 3600
_MIB = 1024 * 1024


def stand_still(_signal: int, _frame: FrameType | None) -> None:
    """Keep the event loop from turning."""
    time.sleep(_HOURS)


def eat_memory(_signal: int, _frame: FrameType | None) -> None:
    """Take memory until the kernel ends it."""
    eaten = []
    while True:
        eaten.append(bytearray(b"x" * (8 * _MIB)))


signal.signal(HANG, stand_still)
signal.signal(HOG, eat_memory)
