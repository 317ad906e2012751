import os
import signal
import sys
import time

import pytest

from app.kit import processes
from app.kit.recycling import Recycling, Turn


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


def test_a_worker_is_due_after_its_requests_and_one_at_a_time() -> None:
    turn = Turn()
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


def taker(turn: Turn) -> int:
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
