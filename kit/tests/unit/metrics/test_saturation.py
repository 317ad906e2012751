import asyncio

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from slipway_kit.metrics.saturation import open_saturation, watch

pytestmark = pytest.mark.anyio


class Source:
    def __init__(self, *, fails: bool = False) -> None:
        self.samples, self._fails = 0, fails

    def sample(self) -> None:
        self.samples += 1
        if self._fails:
            raise ZeroDivisionError


class Time:
    """A clock whose sleeps take the time that the test sets, and end after the last."""

    def __init__(self, *sleeps: float) -> None:
        self.now, self._sleeps = 0.0, list(sleeps)
        self.asked: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.asked.append(seconds)
        if not self._sleeps:
            raise asyncio.CancelledError
        self.now += self._sleeps.pop(0)

    def clock(self) -> float:
        return self.now


def lag() -> tuple[float, float]:
    count = REGISTRY.get_sample_value("event_loop_lag_seconds_count") or 0
    return count, REGISTRY.get_sample_value("event_loop_lag_seconds_sum") or 0


async def test_gauges_are_set_twice_a_second() -> None:
    source, time = Source(), Time(0.5, 0.5)
    with pytest.raises(asyncio.CancelledError):
        await watch([source], sleep=time.sleep, clock=time.clock)
    assert (source.samples, time.asked) == (2, [0.5, 0.5, 0.5])


async def test_the_lag_is_the_time_that_a_sleep_takes_too_long() -> None:
    time = Time(0.5, 0.75, 0.49)
    count, seconds = lag()
    with pytest.raises(asyncio.CancelledError):
        await watch([], sleep=time.sleep, clock=time.clock)
    assert lag()[0] == count + 3
    assert lag()[1] == pytest.approx(seconds + 0.25)


async def test_a_source_that_fails_is_logged_and_the_others_go_on() -> None:
    source, time = Source(), Time(0.5)
    with capture_logs() as events, pytest.raises(asyncio.CancelledError):
        await watch([Source(fails=True), source], sleep=time.sleep, clock=time.clock)
    assert source.samples == 1
    assert [(e["event"], e["source"]) for e in events] == [("gauges not sampled", "Source")]


async def test_gauges_are_set_at_the_start_and_at_the_end_and_no_task_is_left() -> None:
    before, source = asyncio.all_tasks(), Source()
    async with open_saturation(source):
        assert source.samples == 1
        assert len(asyncio.all_tasks()) == len(before) + 1
    assert asyncio.all_tasks() == before
    assert source.samples == 2
