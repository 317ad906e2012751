"""Small questions to the operating system about parents and children."""

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from slipway_kit.clock import now

# What a process is told to leave with.
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
_PR_SET_PDEATHSIG = 1
_LOOK_SECONDS = 1.0


@contextmanager
def endings_held() -> Iterator[None]:
    """Hold back signals to leave while children are forked; they come when the block is over.

    A child has its parent's handlers until it has its own, and a signal that those take is lost.
    A child that was forked inside calls `take_endings` when it is ready for them.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def take_endings() -> None:
    """Take the signals to leave from now on, those that were held back first."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)


def die_with_parent(sig: signal.Signals, *, parent: int) -> None:
    """Have the kernel send `sig` to this process when `parent` ends; only Linux can.

    A parent that ended before the call would go unnoticed, so `sig` is then sent at once.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, sig)
    if os.getppid() != parent:
        os.kill(os.getpid(), sig)


def leave_with_parent(*, parent: int) -> None:
    """End this process when `parent` ends, whatever it does: by the kernel, or by looking.

    Where the kernel does not see to it, a thread looks each second, when Python's lock lets it.
    """
    die_with_parent(signal.SIGKILL, parent=parent)
    if sys.platform != "linux":
        threading.Thread(target=_leave_after, args=[parent], daemon=True).start()


def _leave_after(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_SECONDS)
    os._exit(1)


def child_lives(pid: int) -> bool:
    """Tell whether our child `pid` still runs; a dead one is reaped."""
    try:
        ended, _ = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return False
    return ended == 0


def end_child(pid: int, *, patience_seconds: float) -> None:
    """End our child `pid`: ask with SIGTERM, and kill it when it is still there after a while."""
    if not child_lives(pid):
        return
    os.kill(pid, signal.SIGTERM)
    give_up = now() + patience_seconds
    while child_lives(pid):
        if now() > give_up:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return
        time.sleep(0.01)
