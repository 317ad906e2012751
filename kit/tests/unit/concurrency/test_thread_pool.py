import asyncio
import threading
import time
from typing import Any

import anyio
import anyio.to_thread
import pytest
from anyio import CapacityLimiter
from prometheus_client import REGISTRY
from structlog.contextvars import bound_contextvars, get_contextvars
from structlog.testing import capture_logs

from kit.tests.support.turns import until
from slipway_kit.concurrency.offload import Offload, ThreadPoolFull, measured
from slipway_kit.concurrency.process_pool import OffloadSettings, ProcessPool

pytestmark = pytest.mark.anyio


class QueueLimit:
    """Holds calls in their threads until it is opened."""

    def __init__(self) -> None:
        self.inside, self.most = 0, 0
        self._lock, self._open = threading.Lock(), threading.Event()

    def __call__(self, value: int = 0) -> int:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        self._open.wait(10)
        with self._lock:
            self.inside -= 1
        return value

    def open(self) -> None:
        self._open.set()


def pools(threads: int = 5) -> Offload:
    return offload(CapacityLimiter(threads))


def offload(limiter: CapacityLimiter, **options: Any) -> Offload:
    return Offload(limiter, ProcessPool(OffloadSettings()), wait_seconds=30, **options)


def gauge(name: str, purpose: str = "default") -> float | None:
    return REGISTRY.get_sample_value(f"thread_pool_{name}", {"purpose": purpose})


def queued(purpose: str = "default") -> tuple[float, float]:
    labels = {"purpose": purpose}
    count = REGISTRY.get_sample_value("thread_pool_queue_seconds_count", labels) or 0
    return count, REGISTRY.get_sample_value("thread_pool_queue_seconds_sum", labels) or 0


async def test_thirty_calls_share_five_threads_and_leave_nothing_behind() -> None:
    own, queue_limit = pools(5), QueueLimit()
    before = len(asyncio.all_tasks())
    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(own.blocking(queue_limit, n)) for n in range(30)]
        await until(lambda: queue_limit.inside == 5)
        own.sample()
        assert (gauge("active_threads"), gauge("total_threads")) == (5, 5)
        assert gauge("waiting_tasks") == 25
        queue_limit.open()
    assert [call.result() for call in calls] == list(range(30))
    assert queue_limit.most == 5
    own.sample()
    assert (gauge("active_threads"), gauge("waiting_tasks")) == (0, 0)
    assert len(asyncio.all_tasks()) == before


async def test_a_call_sees_the_context_of_its_caller_and_cannot_change_it() -> None:
    def look() -> str:
        found = str(get_contextvars()["request_id"])
        with bound_contextvars(request_id="other"):
            return found

    with bound_contextvars(request_id="abc"):
        assert await pools().blocking(look) == "abc"
        assert get_contextvars() == {"request_id": "abc"}


async def test_an_error_of_a_call_is_its_callers() -> None:
    with pytest.raises(ZeroDivisionError):
        await pools().blocking(divmod, 1, 0)


async def test_a_call_that_waits_too_long_for_a_thread_is_a_503() -> None:
    own, queue_limit = pools(1), QueueLimit()
    async with asyncio.TaskGroup() as group:
        group.create_task(own.blocking(queue_limit))
        await until(lambda: queue_limit.inside == 1)
        own._wait_seconds = 0.01
        with pytest.raises(ThreadPoolFull) as caught:
            await own.blocking(queue_limit)
        queue_limit.open()
    assert (caught.value.status, caught.value.retry_after_seconds) == (503, 1)


async def test_a_call_that_would_wait_too_long_for_a_thread_is_refused_at_once() -> None:
    limiter, queue_limit = CapacityLimiter(1), QueueLimit()
    own = offload(limiter)
    with measured(limiter):
        await own.blocking(time.sleep, 0.15)
        async with asyncio.TaskGroup() as group:
            group.create_task(own.blocking(queue_limit))
            await until(lambda: queue_limit.inside == 1)
            waiter = group.create_task(own.blocking(abs, -1))
            await until(lambda: limiter.statistics().tasks_waiting)
            with pytest.raises(ThreadPoolFull):
                await own.blocking(abs, -1)
            with pytest.raises(ThreadPoolFull):
                await anyio.to_thread.run_sync(abs, -1, limiter=limiter)
            queue_limit.open()
        assert waiter.result() == 1
    assert limiter.borrowed_tokens == 0


async def test_a_request_that_had_a_thread_is_first_for_the_next_and_is_not_refused() -> None:
    limiter, queue_limit, order = CapacityLimiter(1), QueueLimit(), list[str]()

    async def twice() -> None:
        await anyio.to_thread.run_sync(time.sleep, 0.15, limiter=limiter)
        had_one.set()
        await go_on.wait()
        await anyio.to_thread.run_sync(order.append, "again", limiter=limiter)

    had_one, go_on = asyncio.Event(), asyncio.Event()
    with measured(limiter):
        async with asyncio.TaskGroup() as group:
            group.create_task(twice())
            await had_one.wait()
            group.create_task(anyio.to_thread.run_sync(queue_limit, limiter=limiter))
            await until(lambda: queue_limit.inside == 1)
            group.create_task(anyio.to_thread.run_sync(order.append, "new", limiter=limiter))
            await until(lambda: limiter.statistics().tasks_waiting == 1)
            with pytest.raises(ThreadPoolFull):
                await anyio.to_thread.run_sync(abs, -1, limiter=limiter)
            go_on.set()
            await until(lambda: limiter.statistics().tasks_waiting == 2)
            queue_limit.open()
    assert order == ["again", "new"]


async def test_a_purpose_has_threads_of_its_own() -> None:
    own, queue_limit = pools(1), QueueLimit()
    own.declare("reports", threads=1)
    async with asyncio.TaskGroup() as group:
        group.create_task(own.blocking(queue_limit, purpose="reports"))
        await until(lambda: queue_limit.inside == 1)
        assert await own.blocking(abs, -1) == 1
        own.sample()
        assert gauge("active_threads", "reports") == 1
        queue_limit.open()


async def test_a_purpose_is_declared_once_and_before_it_is_used() -> None:
    own = pools()
    with pytest.raises(KeyError):
        await own.blocking(abs, -1, purpose="unknown")
    with pytest.raises(ValueError, match="default are declared twice"):
        own.declare("default", threads=1)


async def test_a_call_whose_caller_left_holds_its_thread_until_it_returns() -> None:
    own, queue_limit = pools(1), QueueLimit()
    caller = asyncio.create_task(own.blocking(queue_limit))
    await until(lambda: queue_limit.inside == 1)
    own._wait_seconds = 0.01
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    with pytest.raises(ThreadPoolFull):
        await own.blocking(queue_limit)
    queue_limit.open()
    await own.drain(grace_seconds=30)
    own._wait_seconds = 30
    assert await own.blocking(queue_limit, 3) == 3


async def test_an_error_after_the_caller_left_is_logged() -> None:
    own, queue_limit = pools(), QueueLimit()

    def fail() -> None:
        queue_limit()
        raise ValueError("late")

    caller = asyncio.create_task(own.blocking(fail))
    await until(lambda: queue_limit.inside == 1)
    caller.cancel()
    with capture_logs() as events:
        await asyncio.wait([caller])
        queue_limit.open()
        await own.drain(grace_seconds=5)
        await asyncio.sleep(0)
    assert [str(event["exc_info"]) for event in events] == ["late"]


async def test_a_caller_that_leaves_while_it_waits_takes_no_thread() -> None:
    own, queue_limit = pools(1), QueueLimit()
    async with asyncio.TaskGroup() as group:
        group.create_task(own.blocking(queue_limit))
        await until(lambda: queue_limit.inside == 1)
        waiter = asyncio.create_task(own.blocking(queue_limit))
        await asyncio.sleep(0)
        waiter.cancel()
        await asyncio.wait([waiter])
        queue_limit.open()
    own.sample()
    assert (gauge("active_threads"), gauge("waiting_tasks")) == (0, 0)


async def test_what_outlasts_the_grace_is_reported() -> None:
    own, queue_limit = pools(), QueueLimit()
    call = asyncio.create_task(own.blocking(queue_limit))
    await until(lambda: queue_limit.inside == 1)
    with capture_logs() as events:
        await own.drain(grace_seconds=0.01)
    assert [(e["event"], e["count"]) for e in events] == [
        ("blocking calls left behind at shutdown", 1)
    ]
    queue_limit.open()
    await call


async def test_the_wait_of_plain_routes_for_their_thread_is_measured() -> None:
    limiter, queue_limit = CapacityLimiter(1), QueueLimit()
    now = [0.0]
    count, seconds = queued()
    with measured(limiter, clock=lambda: now[0]):
        async with asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(anyio.to_thread.run_sync(queue_limit, limiter=limiter))
            await until(lambda: queue_limit.inside == 1 and limiter.statistics().tasks_waiting == 1)
            now[0] = 3.0
            queue_limit.open()
    assert queued() == (count + 2, seconds + 3)
    await anyio.to_thread.run_sync(queue_limit, limiter=limiter)
    assert queued()[0] == count + 2


async def test_the_wait_of_a_blocking_call_is_measured_by_purpose_once() -> None:
    now = [0.0]
    limiter = CapacityLimiter(1)
    own = offload(limiter, clock=lambda: now[0])
    own.declare("measured", threads=1)
    count, _ = queued("measured")
    default, _ = queued()
    with measured(limiter, clock=lambda: now[0]):
        await own.blocking(abs, -1, purpose="measured")
        await own.blocking(abs, -1)
    assert queued("measured")[0] == count + 1
    assert queued()[0] == default + 1
