"""Signals of parent and child processes, and what a process may have."""

import ctypes
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from slipway_kit.clock import now

# Signals that ask a process to terminate.
_TERMINATION = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
_PR_SET_PDEATHSIG = 1


def max_descriptors() -> int | None:
    """Return how many file descriptors this process may have open; `None` is any number."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if most == resource.RLIM_INFINITY else most


@contextmanager
def termination_signals_blocked() -> Iterator[None]:
    """Block termination signals in the block, in which children are forked.

    A child has its parent's handlers until it installs its own, and a signal in between would be
    lost. A child that is forked here calls `unblock_termination_signals` when it has them.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _TERMINATION)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def unblock_termination_signals() -> None:
    """Deliver termination signals from now on, pending ones first."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _TERMINATION)


def die_with_parent(sig: signal.Signals, *, parent: int) -> None:
    """Have the kernel send `sig` to this process when `parent` ends, or now if it has ended.

    Outside Linux only the latter.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, sig)
    if os.getppid() != parent:
        os.kill(os.getpid(), sig)


def child_is_running(pid: int) -> bool:
    """Tell whether the child `pid` runs, and reap it when it does not."""
    try:
        ended, _ = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return False
    return ended == 0


def terminate_child(pid: int, *, timeout_seconds: float) -> None:
    """Send SIGTERM to the child `pid`, and SIGKILL when it runs after `timeout_seconds`."""
    if child_is_running(pid):
        os.kill(pid, signal.SIGTERM)
    give_up = now() + timeout_seconds
    while child_is_running(pid):
        if now() > give_up:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return
        time.sleep(0.01)
