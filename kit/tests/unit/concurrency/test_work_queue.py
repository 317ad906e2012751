import asyncio

import pytest
import structlog
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from kit.tests.support.turns import other_tasks, turns, until
from slipway_kit.concurrency.work_queue import WorkQueue
from slipway_kit.errors import Overloaded, Unavailable

pytestmark = pytest.mark.anyio


def items(queue: str, outcome: str) -> float:
    """Read a counter, which goes on from test to test: each test names a queue of its own."""
    labels = {"queue": queue, "outcome": outcome}
    return REGISTRY.get_sample_value("queue_items_total", labels) or 0


def gauge(name: str, queue: str) -> float | None:
    return REGISTRY.get_sample_value(name, {"queue": queue})


class Held:
    """A handler that waits until the test lets it go on."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.done: list[int] = []
        self.go_on = asyncio.Event()

    async def __call__(self, item: int) -> None:
        self.begun.append(item)
        await self.go_on.wait()
        self.done.append(item)


async def test_items_are_handled_in_the_order_of_arrival() -> None:
    done: list[int] = []

    async def handle(item: int) -> None:
        await asyncio.sleep(0)
        done.append(item)

    queue = WorkQueue("in-order", handle, size=10)
    async with queue.running(grace_seconds=5):
        for item in range(5):
            queue.put(item)
    assert done == [0, 1, 2, 3, 4]
    assert items("in-order", "done") == 5


async def test_a_full_queue_refuses_with_a_sentence_and_takes_more_after_an_item_left() -> None:
    held = Held()
    queue = WorkQueue("full", held, size=2)
    async with queue.running(grace_seconds=5):
        queue.put(1)
        await until(lambda: held.begun == [1])
        queue.put(2)
        queue.put(3)
        with pytest.raises(Overloaded) as refused:
            queue.put(4)
        assert str(refused.value) == "The queue full is full (2 items); try again soon."
        assert (refused.value.status, refused.value.headers) == (503, {"Retry-After": "1"})
        assert items("full", "refused") == 1
        held.go_on.set()
        await until(lambda: len(queue) == 0)
        queue.put(5)
    assert held.done == [1, 2, 3, 5]


async def test_as_many_items_as_workers_are_handled_at_a_time() -> None:
    held = Held()
    queue = WorkQueue("crew", held, size=10, workers=3)
    async with queue.running(grace_seconds=5):
        for item in range(5):
            queue.put(item)
        await until(lambda: len(held.begun) == 3)
        await turns()
        assert held.begun == [0, 1, 2]
        assert len(queue) == 2
        held.go_on.set()
    assert sorted(held.done) == [0, 1, 2, 3, 4]


async def test_an_item_that_raises_is_logged_with_its_queue_and_the_others_go_on() -> None:
    done = []

    async def handle(item: int) -> None:
        if item == 1:
            raise ValueError("boom")
        done.append(item)

    queue = WorkQueue("failing", handle, size=10)
    with capture_logs() as events:
        async with queue.running(grace_seconds=5):
            for item in range(3):
                queue.put(item)
    [event] = events
    assert (event["event"], event["queue"]) == ("queued work failed", "failing")
    assert event["exc_info"] is True
    assert done == [0, 2]
    assert (items("failing", "failed"), items("failing", "done")) == (1, 2)


async def test_an_item_that_cancels_itself_ends_no_worker() -> None:
    done = []

    async def handle(item: int) -> None:
        if item == 0:
            raise asyncio.CancelledError
        done.append(item)

    queue = WorkQueue("self-cancelling", handle, size=10)
    with capture_logs() as events:
        async with queue.running(grace_seconds=5):
            queue.put(0)
            queue.put(1)
    assert done == [1]
    assert [event["event"] for event in events] == ["queued work cancelled itself"]
    assert items("self-cancelling", "failed") == 1


async def test_an_item_is_handled_in_the_context_of_who_put_it() -> None:
    seen = []

    async def handle(_: int) -> None:
        seen.append(structlog.contextvars.get_contextvars().get("request_id"))

    queue = WorkQueue("context", handle, size=10)
    async with queue.running(grace_seconds=5):
        for request_id in ("a", "b"):
            with structlog.contextvars.bound_contextvars(request_id=request_id):
                queue.put(0)
        queue.put(0)
    assert seen == ["a", "b", None]


async def test_at_exit_the_queue_takes_nothing_new_and_finishes_the_rest() -> None:
    held = Held()
    queue = WorkQueue("leaving", held, size=10)

    async def leave() -> None:
        async with queue.running(grace_seconds=5):
            queue.put(1)
            queue.put(2)

    leaving = asyncio.create_task(leave())
    await until(lambda: held.begun == [1])
    with pytest.raises(Unavailable, match="accepts no work now"):
        queue.put(3)
    held.go_on.set()
    await leaving
    assert held.done == [1, 2]
    assert items("leaving", "abandoned") == 0


async def test_a_queue_that_does_not_run_takes_nothing() -> None:
    queue = WorkQueue("still", Held(), size=10)
    with pytest.raises(Unavailable, match="accepts no work now"):
        queue.put(1)
    assert items("still", "refused") == 1


async def test_what_outlasts_the_grace_is_cancelled_counted_and_reported_by_one_line() -> None:
    held = Held()
    queue = WorkQueue("abandoning", held, size=10)
    with capture_logs() as events:
        async with queue.running(grace_seconds=0.01):
            for item in range(3):
                queue.put(item)
            await until(lambda: held.begun == [0])
    reports = [event for event in events if event["event"] == "queued work abandoned"]
    assert [(event["queue"], event["items"]) for event in reports] == [("abandoning", 3)]
    assert (held.begun, held.done) == ([0], [])
    assert items("abandoning", "abandoned") == 3


async def test_a_close_phase_over_its_deadline_abandons_in_the_same_way() -> None:
    queue = WorkQueue("cut", Held(), size=10)

    async def work() -> None:
        async with asyncio.timeout(0.01), queue.running(grace_seconds=60):
            queue.put(1)
            queue.put(2)

    before = other_tasks()
    with capture_logs() as events, pytest.raises(TimeoutError):
        await work()
    assert [(event["event"], event["items"]) for event in events] == [("queued work abandoned", 2)]
    assert items("cut", "abandoned") == 2
    assert other_tasks() == before


async def test_work_that_finishes_although_it_is_cancelled_counts_as_done() -> None:
    begun: list[int] = []

    async def handle(item: int) -> None:
        begun.append(item)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)

    queue = WorkQueue("stubborn", handle, size=10)
    async with queue.running(grace_seconds=0.01):
        queue.put(1)
        await until(lambda: begun == [1])
    assert (items("stubborn", "done"), items("stubborn", "abandoned")) == (1, 0)


async def test_depth_and_capacity_are_shown_while_the_queue_runs() -> None:
    held = Held()
    queue = WorkQueue("measured", held, size=7)
    async with queue.running(grace_seconds=5):
        for item in range(3):
            queue.put(item)
        assert (gauge("queue_depth", "measured"), gauge("queue_capacity", "measured")) == (2, 7)
        held.go_on.set()
    assert (gauge("queue_depth", "measured"), gauge("queue_capacity", "measured")) == (0, 0)


async def test_the_time_an_item_waited_is_measured() -> None:
    now = 100.0
    held = Held()
    queue = WorkQueue("slow", held, size=7, clock=lambda: now)
    async with queue.running(grace_seconds=5):
        queue.put(1)
        queue.put(2)
        now += 3
        held.go_on.set()
    assert gauge("queue_wait_seconds_sum", "slow") == 3
    assert gauge("queue_wait_seconds_count", "slow") == 2


@pytest.mark.parametrize(("size", "workers"), [(0, 1), (1, 0)])
async def test_a_queue_without_a_bound_or_workers_is_refused(size: int, workers: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        WorkQueue("unbounded", Held(), size=size, workers=workers)
