"""The allowance for pauses, on a clock that tests set forward."""

from slipway_kit.overload.pauses import (
    ALLOWANCE_RATE,
    ALLOWANCE_SECONDS,
    MAX_LATE_SECONDS,
    TICK_SECONDS,
    Pauses,
)


class Clock:
    def __init__(self) -> None:
        self.now = 50.0
        self.pauses = Pauses(lambda: self.now)

    def pass_(self, seconds: float) -> None:
        """Let time pass in which the event loop runs."""
        for _ in range(round(seconds / TICK_SECONDS)):
            self.now += TICK_SECONDS
            self.pauses.tick()


def test_a_queue_may_be_as_long_as_a_pause_was_for_twice_that_time() -> None:
    clock = Clock()
    assert clock.pauses.end(0.5) == 0.5
    for _ in range(2):
        assert clock.pauses.extra_seconds == 0.5
        clock.now += 0.49
    clock.now += 0.03
    assert clock.pauses.extra_seconds == 0


def test_a_short_pause_does_not_prolong_what_a_long_one_left() -> None:
    clock = Clock()
    clock.pauses.end(0.5)
    clock.now += 0.9
    clock.pauses.end(0.1)
    clock.now += 0.15
    assert clock.pauses.extra_seconds == 0.5
    clock.now += 0.1
    assert clock.pauses.extra_seconds == 0


def test_what_pauses_often_is_not_allowed_for() -> None:
    clock = Clock()
    allowed = 0.0
    for _ in range(100):
        clock.now += 1
        allowed += clock.pauses.end(0.5)
    assert allowed <= ALLOWANCE_SECONDS + 100 * ALLOWANCE_RATE
    clock.now += ALLOWANCE_SECONDS / ALLOWANCE_RATE
    assert clock.pauses.allowed(ALLOWANCE_SECONDS) == ALLOWANCE_SECONDS


def test_a_pause_that_several_limits_note_counts_once() -> None:
    clock = Clock()
    for _ in range(5):
        assert clock.pauses.end(1) == 1
    clock.now += 1
    assert clock.pauses.allowed(2) < 2


def test_an_event_loop_that_did_not_run_has_paused() -> None:
    clock = Clock()
    clock.pass_(1)
    assert clock.pauses.extra_seconds == 0
    clock.now += TICK_SECONDS + MAX_LATE_SECONDS / 2
    assert clock.pauses.extra_seconds == 0
    clock.now += 0.8
    # At once, before it is noted, and after that.
    assert clock.pauses.extra_seconds > 0.8
    clock.pass_(1)
    assert clock.pauses.extra_seconds > 0.8
    clock.pass_(1)
    assert clock.pauses.extra_seconds == 0


def test_without_ticks_no_time_is_a_pause() -> None:
    clock = Clock()
    clock.now += 1000
    assert clock.pauses.extra_seconds == 0
