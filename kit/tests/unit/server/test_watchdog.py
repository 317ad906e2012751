import asyncio
import threading
from typing import Any

import pytest
import structlog
from prometheus_client import REGISTRY
from structlog.testing import capture_logs
from structlog.typing import EventDict

from slipway_kit.server.watchdog import (
    Watchdog,
    WatchdogSettings,
    open_watchdog,
    position_of,
)

# Binary fractions, so that sums are exact.
STALL, PERIOD = 0.5, 0.25
POSITION = {
    "line": "app.py:3 in block",
    "frames": ("app.py:1 in serve", "app.py:3 in block"),
    "request_id": "abc",
}


class Machine:
    """A loop and its watching thread on simulated time."""

    def __init__(self) -> None:
        self.now = self.cpu = 0.0
        self.watchdog = Watchdog(
            stall_seconds=STALL,
            position=lambda: POSITION,
            clock=lambda: self.now,
            cpu_clock=lambda: self.cpu,
        )

    def runs(self, seconds: float) -> None:
        """Let both run."""
        for _ in range(int(seconds / PERIOD)):
            self.now += PERIOD
            self.watchdog.beat()
            self.watchdog.check()

    def blocks(self, seconds: float) -> None:
        """Block the loop while the thread runs."""
        for _ in range(int(seconds / PERIOD)):
            self.now += PERIOD
            self.watchdog.check()

    def jumps(self, seconds: float, *, cpu: float) -> None:
        """Let neither of them run."""
        self.now += seconds
        self.cpu += cpu
        self.watchdog.check()


@pytest.fixture
def machine() -> Machine:
    return Machine()


def stalls() -> float:
    return REGISTRY.get_sample_value("event_loop_stalls_total") or 0


def seen(events: list[EventDict]) -> list[tuple[Any, ...]]:
    return [(event["event"], event["log_level"], event["seconds"]) for event in events]


def test_a_loop_that_runs_is_not_logged(machine: Machine) -> None:
    with capture_logs() as events:
        machine.runs(60)
        machine.blocks(STALL)
        machine.runs(60)
    assert events == []


def test_a_stall_is_logged_once_with_its_line_and_once_when_it_ends(
    machine: Machine,
) -> None:
    before = stalls()
    with capture_logs() as events:
        machine.runs(10)
        machine.blocks(10)
        machine.runs(10)
    assert seen(events) == [
        ("event loop is blocked", "warning", 0.75),
        ("event loop runs again", "info", 10.0),
    ]
    assert events[0].items() >= POSITION.items()
    assert stalls() - before == 1


def test_a_stall_can_be_rendered_as_text(machine: Machine) -> None:
    machine.runs(1)
    with capture_logs() as events:
        machine.blocks(1)
    line = structlog.dev.ConsoleRenderer(colors=False)(None, "warning", dict(events[0]))
    assert "app.py:3 in block" in line


def test_each_stall_is_counted_also_right_after_another(machine: Machine) -> None:
    with capture_logs() as events:
        machine.blocks(2)
        machine.watchdog.beat()
        machine.blocks(2)
        machine.runs(1)
    assert [event["event"] for event in events] == [
        "event loop is blocked",
        "event loop runs again",
    ] * 2


@pytest.mark.parametrize("seconds", [1, 3600])
def test_a_stopped_process_is_no_stall(machine: Machine, seconds: float) -> None:
    with capture_logs() as events:
        machine.runs(10)
        machine.jumps(seconds, cpu=0.01)
        machine.runs(10)
    assert events == []


def test_a_loop_that_blocks_after_the_process_was_stopped_is_a_stall(machine: Machine) -> None:
    with capture_logs() as events:
        machine.jumps(3600, cpu=0)
        machine.blocks(2)
    assert seen(events) == [("event loop is blocked", "warning", 0.75)]


def test_a_call_that_keeps_the_gil_is_a_stall(machine: Machine) -> None:
    with capture_logs() as events:
        machine.runs(10)
        machine.jumps(4, cpu=3.9)
        machine.runs(1)
    assert [event["event"] for event in events] == [
        "event loop is blocked",
        "event loop runs again",
    ]


def test_a_thread_that_has_ended_has_no_position() -> None:
    assert position_of(-1) == {}


def test_the_position_is_the_innermost_line_outside_libraries() -> None:
    waiting, go_on = threading.Event(), threading.Event()

    def serve(scope: dict[str, Any]) -> None:
        waiting.set()
        # Inside, the standard library waits.
        go_on.wait(10)

    thread = threading.Thread(target=serve, args=[{"request_id": "abc", "type": "http"}])
    thread.start()
    waiting.wait(10)
    ident = thread.ident
    assert ident is not None
    try:
        position = position_of(ident)
    finally:
        go_on.set()
        thread.join()
    line = position.pop("line")
    assert line.endswith(" in serve")
    assert "test_watchdog.py:" in line
    assert position.pop("frames").index(line) > 0
    assert position == {"request_id": "abc", "route": "unmatched"}


@pytest.mark.anyio
async def test_an_open_watchdog_watches_its_loop_and_ends_its_thread() -> None:
    before = threading.active_count()
    with capture_logs() as events:
        async with open_watchdog(WatchdogSettings(stall_seconds=0.01)):
            assert threading.active_count() == before + 1
            await asyncio.sleep(0.02)
            assert block(events)
    assert threading.active_count() == before


def block(events: list[EventDict]) -> bool:
    """Block until the watchdog has named this function, or for ten seconds."""
    never = threading.Event()
    for _ in range(1000):
        if any("in block" in event.get("line", "") for event in events):
            return True
        never.wait(0.01)
    return False


@pytest.mark.anyio
async def test_zero_seconds_turn_the_watchdog_off() -> None:
    before = threading.active_count()
    async with open_watchdog(WatchdogSettings(stall_seconds=0)):
        assert threading.active_count() == before
