import asyncio
import gc
from typing import Any

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from kit.tests.support.turns import turns
from slipway_kit.concurrency.tasks import Tasks

pytestmark = pytest.mark.anyio


async def fail(message: str) -> None:
    raise ValueError(message)


def finished(outcome: str) -> float:
    return REGISTRY.get_sample_value("tasks_finished_total", {"outcome": outcome}) or 0


async def test_the_error_of_a_task_is_logged_with_its_name() -> None:
    with capture_logs() as events:
        async with Tasks().running(grace_seconds=1) as tasks:
            tasks.spawn(fail, "boom")
    [event] = events
    assert (event["event"], event["task"], event["log_level"]) == ("task failed", "fail", "error")
    assert str(event["exc_info"]) == "boom"


async def test_shutdown_waits_for_tasks_and_for_those_that_they_spawn() -> None:
    done = []

    async def inner() -> None:
        await asyncio.sleep(0)
        done.append("inner")

    async def outer() -> None:
        await asyncio.sleep(0)
        tasks.spawn(inner)
        done.append("outer")

    async with Tasks().running(grace_seconds=5) as tasks:
        tasks.spawn(outer)
        assert len(tasks) == 1
    assert done == ["outer", "inner"]
    assert len(tasks) == 0


async def test_what_outlasts_the_grace_is_cancelled_and_reported() -> None:
    cancelled = asyncio.Event()

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    with capture_logs() as events:
        async with Tasks().running(grace_seconds=0.01) as tasks:
            tasks.spawn(endless)
    assert cancelled.is_set()
    [event] = events
    assert event["event"] == "tasks cancelled at shutdown"
    assert event["tasks"][0].endswith("endless")


async def test_a_shutdown_over_its_deadline_leaves_no_task_behind() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01), Tasks().running(grace_seconds=60) as tasks:
            tasks.spawn(asyncio.Event().wait)
    assert len(tasks) == 0


async def test_a_task_that_comes_after_shutdown_is_refused() -> None:
    async with Tasks().running(grace_seconds=1) as tasks:
        pass
    with pytest.raises(RuntimeError, match="was started after"):
        tasks.spawn(fail, "late")


async def test_a_cancelled_task_is_no_error() -> None:
    with capture_logs() as events:
        async with Tasks().running(grace_seconds=1) as tasks:
            tasks.spawn(asyncio.Event().wait).cancel()
    assert events == []


async def test_a_task_that_nobody_refers_to_is_not_collected(unseen: list[Any]) -> None:
    ended = []

    async def wait_for_what_nobody_else_holds() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            ended.append("cancelled")

    async with Tasks().running(grace_seconds=0.01) as tasks:
        tasks.spawn(wait_for_what_nobody_else_holds)
        await turns()
        gc.collect()
        assert ended == []
    assert ended == ["cancelled"]


async def test_tasks_are_counted_while_they_run_and_by_their_end() -> None:
    names = ("done", "failed", "cancelled")
    before = [finished(name) for name in names]
    async with Tasks().running(grace_seconds=1) as tasks:
        tasks.spawn(asyncio.sleep, 0)
        tasks.spawn(fail, "boom")
        tasks.spawn(asyncio.Event().wait).cancel()
        assert REGISTRY.get_sample_value("tasks_running") == 3
    assert REGISTRY.get_sample_value("tasks_running") == 0
    assert [finished(name) - old for name, old in zip(names, before, strict=True)] == [1, 1, 1]
