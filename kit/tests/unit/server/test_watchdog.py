import asyncio
import threading
from typing import Any

import pytest
import structlog
from prometheus_client import REGISTRY
from structlog.testing import capture_logs
from structlog.typing import EventDict

from slipway_kit.server.watchdog import Place, Watchdog, WatchdogSettings, open_watchdog, place_of

# Binary fractions, so that sums are exact.
STALL, PERIOD = 0.5, 0.25
PLACE = Place(
    "app.py:3 in block", ("app.py:1 in serve", "app.py:3 in block"), {"request_id": "abc"}
)


class Machine:
    """A loop and the thread that watches it, as the test lets them run."""

    def __init__(self) -> None:
        self.now = self.cpu = 0.0
        self.dog = Watchdog(
            stall_seconds=STALL,
            look=lambda: PLACE,
            clock=lambda: self.now,
            cpu_clock=lambda: self.cpu,
        )

    def turns(self, seconds: float) -> None:
        """Let the loop turn."""
        for _ in range(int(seconds / PERIOD)):
            self.now += PERIOD
            self.dog.beat()
            self.dog.check()

    def blocks(self, seconds: float) -> None:
        """Let the loop stand still while the thread watches."""
        for _ in range(int(seconds / PERIOD)):
            self.now += PERIOD
            self.dog.check()

    def jumps(self, seconds: float, *, cpu: float) -> None:
        """Let neither run."""
        self.now += seconds
        self.cpu += cpu
        self.dog.check()


@pytest.fixture
def machine() -> Machine:
    return Machine()


def stalls() -> float:
    return REGISTRY.get_sample_value("event_loop_stalls_total") or 0


def seen(events: list[EventDict]) -> list[tuple[Any, ...]]:
    return [(event["event"], event["log_level"], event["seconds"]) for event in events]


def test_a_loop_that_turns_is_no_news(machine: Machine) -> None:
    with capture_logs() as events:
        machine.turns(60)
        machine.blocks(STALL)
        machine.turns(60)
    assert events == []


def test_a_stall_is_one_warning_with_its_line_and_one_line_when_it_is_over(
    machine: Machine,
) -> None:
    before = stalls()
    with capture_logs() as events:
        machine.turns(10)
        machine.blocks(10)
        machine.turns(10)
    assert seen(events) == [
        ("event loop stands still", "warning", 0.75),
        ("event loop turns again", "info", 10.0),
    ]
    assert (events[0]["line"], events[0]["frames"]) == (PLACE.line, PLACE.stack)
    assert events[0]["request_id"] == "abc"
    assert stalls() - before == 1


def test_a_stall_can_be_written_for_people_too(machine: Machine) -> None:
    machine.turns(1)
    with capture_logs() as events:
        machine.blocks(1)
    line = structlog.dev.ConsoleRenderer(colors=False)(None, "warning", dict(events[0]))
    assert "app.py:3 in block" in line


def test_each_stall_is_counted_also_right_after_another(machine: Machine) -> None:
    with capture_logs() as events:
        machine.blocks(2)
        machine.dog.beat()
        machine.blocks(2)
        machine.turns(1)
    assert [event["event"] for event in events] == [
        "event loop stands still",
        "event loop turns again",
    ] * 2


@pytest.mark.parametrize("seconds", [1, 3600])
def test_a_process_that_was_stopped_did_not_stall(machine: Machine, seconds: float) -> None:
    with capture_logs() as events:
        machine.turns(10)
        machine.jumps(seconds, cpu=0.01)
        machine.turns(10)
    assert events == []


def test_a_loop_that_still_blocks_after_the_process_was_stopped_is_found(machine: Machine) -> None:
    with capture_logs() as events:
        machine.jumps(3600, cpu=0)
        machine.blocks(2)
    assert seen(events) == [("event loop stands still", "warning", 0.75)]


def test_a_call_that_keeps_pythons_lock_is_a_stall(machine: Machine) -> None:
    with capture_logs() as events:
        machine.turns(10)
        machine.jumps(4, cpu=3.9)
        machine.turns(1)
    assert [event["event"] for event in events] == [
        "event loop stands still",
        "event loop turns again",
    ]


def test_a_thread_that_is_gone_has_no_place() -> None:
    assert place_of(-1) is None


def test_the_place_is_the_innermost_line_that_is_no_librarys() -> None:
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
        place = place_of(ident)
    finally:
        go_on.set()
        thread.join()
    assert place is not None
    assert place.line.endswith(" in serve")
    assert "test_watchdog.py:" in place.line
    assert place.stack.index(place.line) > 0
    assert place.request == {"request_id": "abc", "route": "unmatched"}


@pytest.mark.anyio
async def test_the_loop_of_an_open_watchdog_is_watched_and_nothing_is_left() -> None:
    before = threading.active_count()
    with capture_logs() as events:
        async with open_watchdog(WatchdogSettings(stall_seconds=0.01)):
            assert threading.active_count() == before + 1
            await asyncio.sleep(0.02)
            assert stand_still(events)
    assert threading.active_count() == before


def stand_still(events: list[EventDict]) -> bool:
    """Block until the watchdog has named this function, or for ten seconds."""
    never = threading.Event()
    for _ in range(1000):
        if any("in stand_still" in event.get("line", "") for event in events):
            return True
        never.wait(0.01)
    return False


@pytest.mark.anyio
async def test_without_a_limit_nobody_watches() -> None:
    before = threading.active_count()
    async with open_watchdog(WatchdogSettings(stall_seconds=0)):
        assert threading.active_count() == before
