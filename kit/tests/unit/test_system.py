import os
import signal
import sys
import time
from contextlib import suppress

import psutil
import pytest

from slipway_kit import system as processes
from slipway_kit.server.recycling import Recycling


def child(*, ignores_sigterm: bool = False) -> int:
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN if ignores_sigterm else signal.SIG_DFL)
        time.sleep(30)
        os.kill(os.getpid(), signal.SIGKILL)
    return pid


@pytest.mark.parametrize("ignores_sigterm", [False, True])
def test_a_child_is_terminated_or_killed(*, ignores_sigterm: bool) -> None:
    pid = child(ignores_sigterm=ignores_sigterm)
    assert processes.child_is_running(pid)
    time.sleep(0.05)
    processes.terminate_child(pid, timeout_seconds=0.2)
    assert not processes.child_is_running(pid)
    processes.terminate_child(pid, timeout_seconds=0.2)


def test_a_child_signalled_before_its_handlers_are_installed_ends_once_they_are() -> None:
    swallowed: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda sig, _: swallowed.append(sig))
    try:
        with processes.termination_signals_blocked():
            # To this thread: another thread could take a signal to the process.
            signal.raise_signal(signal.SIGTERM)
            assert swallowed == []
            pid = os.fork()
            if pid == 0:
                # Its parent's handler is still installed, as in a new gunicorn worker.
                os.kill(os.getpid(), signal.SIGTERM)
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                processes.unblock_termination_signals()
                os._exit(1)
        assert swallowed == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGTERM


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_a_child_of_a_dead_parent_ends_at_once(
    monkeypatch: pytest.MonkeyPatch, platform: str
) -> None:
    pid = os.fork()
    if pid == 0:
        monkeypatch.setattr(sys, "platform", platform)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        processes.die_with_parent(signal.SIGTERM, parent=1)
        os.kill(os.getpid(), signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGTERM


def test_a_busy_process_exits_with_its_parent() -> None:
    told, tell = os.pipe()
    middle = os.fork()
    if middle == 0:
        busy = os.fork()
        if busy == 0:
            processes.die_with_parent(signal.SIGKILL, parent=os.getppid())
            os.write(tell, str(os.getpid()).encode())
            time.sleep(30)
        time.sleep(30)
    pid = int(os.read(told, 20))
    os.close(told)
    os.close(tell)
    os.kill(middle, signal.SIGKILL)
    os.waitpid(middle, 0)
    wait_for_end(pid)


def wait_for_end(pid: int) -> None:
    """Wait until a process that is no child of the tests has ended."""
    give_up = time.monotonic() + 30
    with suppress(psutil.NoSuchProcess):
        while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < give_up
            time.sleep(0.01)


def test_workers_are_recycled_after_max_requests_and_one_at_a_time() -> None:
    recycling = Recycling()
    assert not recycling.due(9, 10)
    assert not recycling.due(10**9, 0)
    other = holder(recycling)
    try:
        assert not recycling.due(10, 10), "the other one is leaving"
    finally:
        processes.terminate_child(other, timeout_seconds=1)
    assert recycling.due(10, 10)
    recycling._file.close()


def holder(recycling: Recycling) -> int:
    """Fork a worker that takes the lock and exits late."""
    taken, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.write(told, b"1" if recycling.due(10, 10) else b"0")
        time.sleep(30)
        os.kill(os.getpid(), signal.SIGKILL)
    assert os.read(taken, 1) == b"1"
    os.close(taken)
    os.close(told)
    return pid
