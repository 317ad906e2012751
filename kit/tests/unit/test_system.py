import os
import signal
import sys
import time
from contextlib import suppress

import psutil
import pytest

from slipway_kit import system as processes
from slipway_kit.server.recycling import Recycling, RecyclingLock


def child(*, ignores_sigterm: bool = False) -> int:
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN if ignores_sigterm else signal.SIG_DFL)
        time.sleep(30)
        os.kill(os.getpid(), signal.SIGKILL)
    return pid


@pytest.mark.parametrize("ignores_sigterm", [False, True])
def test_a_child_is_ended_for_certain(*, ignores_sigterm: bool) -> None:
    pid = child(ignores_sigterm=ignores_sigterm)
    assert processes.child_lives(pid)
    time.sleep(0.05)
    processes.end_child(pid, patience_seconds=0.2)
    assert not processes.child_lives(pid)
    processes.end_child(pid, patience_seconds=0.2)


def test_a_child_that_is_told_to_end_before_it_is_ready_ends_when_it_is() -> None:
    swallowed: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda sig, _: swallowed.append(sig))
    try:
        with processes.endings_held():
            # To this thread: another one of the tests would take what is for the process.
            signal.raise_signal(signal.SIGTERM)
            assert swallowed == []
            pid = os.fork()
            if pid == 0:
                # With its parent's handler still, as gunicorn's workers have for a moment.
                os.kill(os.getpid(), signal.SIGTERM)
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                processes.take_endings()
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


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_a_busy_process_leaves_with_its_parent_also_where_the_kernel_does_not_see_to_it(
    monkeypatch: pytest.MonkeyPatch, platform: str
) -> None:
    told, tell = os.pipe()
    middle = os.fork()
    if middle == 0:
        busy = os.fork()
        if busy == 0:
            monkeypatch.setattr(sys, "platform", platform)
            monkeypatch.setattr(processes, "_LOOK_SECONDS", 0.01)
            processes.leave_with_parent(parent=os.getppid())
            os.write(tell, str(os.getpid()).encode())
            time.sleep(30)
        time.sleep(30)
    pid = int(os.read(told, 20))
    os.close(told)
    os.close(tell)
    os.kill(middle, signal.SIGKILL)
    os.waitpid(middle, 0)
    gone(pid)


def gone(pid: int) -> None:
    """Wait until a process that is nobody's child here has ended."""
    give_up = time.monotonic() + 30
    with suppress(psutil.NoSuchProcess):
        while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < give_up
            time.sleep(0.01)


def test_a_worker_is_due_after_its_requests_and_one_at_a_time() -> None:
    turn = RecyclingLock()
    recycling = Recycling(10, turn)
    assert not recycling.due(9)
    assert not Recycling(0, turn).due(10**9)
    other = taker(turn)
    try:
        assert not recycling.due(10), "the other one is leaving"
    finally:
        processes.end_child(other, patience_seconds=1)
    assert recycling.due(10)
    turn._file.close()


def taker(turn: RecyclingLock) -> int:
    """Fork a worker that is due and leaves slowly."""
    taken, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.write(told, b"1" if Recycling(10, turn).due(10) else b"0")
        time.sleep(30)
        os.kill(os.getpid(), signal.SIGKILL)
    assert os.read(taken, 1) == b"1"
    os.close(taken)
    os.close(told)
    return pid
