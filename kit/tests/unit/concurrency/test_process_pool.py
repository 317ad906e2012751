"""The pool with processes that the test plays itself, and the answers that a child gives."""

import asyncio
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import REGISTRY
from structlog.contextvars import bound_contextvars
from structlog.testing import capture_logs

from kit.tests.support.turns import until
from slipway_kit import pool_child as child
from slipway_kit.concurrency.process_pool import (
    Child,
    ChildTraceback,
    ComputationLost,
    ComputationTimeout,
    OffloadSettings,
    ProcessPool,
    ProcessPoolFull,
)
from slipway_kit.errors import NotFound, Unavailable
from slipway_kit.pool_child import Job, JobError, NotPicklable

pytestmark = pytest.mark.anyio


class FakeChild(Child):
    """Answers as a real child does, when the test lets it."""

    def __init__(self, *, mute: bool = False) -> None:
        self.mute, self.running, self.killed = mute, True, False
        self.begun, self.go_on, self.gone = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.begun.set()
        self.go_on.set()
        self.jobs: list[Job] = []

    @property
    def alive(self) -> bool:
        return self.running

    async def run(self, job: bytes) -> bytes:
        await self.begun.wait()
        self.jobs.append(pickle.loads(job))
        await self.go_on.wait()
        if not self.running:
            raise EOFError
        return child.answer(job)

    async def stop(self) -> None:
        self.end()

    async def kill(self) -> None:
        self.killed = True
        if not self.mute:
            self.end()
        await self.gone.wait()

    def end(self) -> None:
        self.running = False
        self.go_on.set()
        self.gone.set()


class Family:
    """Every child that the pool has started."""

    def __init__(self, prepare: Callable[[FakeChild], object] = lambda _: None) -> None:
        self.children: list[FakeChild] = []
        self._prepare = prepare

    async def __call__(self) -> FakeChild:
        new = FakeChild()
        self._prepare(new)
        self.children.append(new)
        return new


def pool(family: Family, **changes: Any) -> ProcessPool:
    options = {"max_waiting": 2, "wait_seconds": 30, "timeout_seconds": 30, **changes}
    return ProcessPool(OffloadSettings(**options), start=family)


def patient(own: ProcessPool) -> None:
    """From here on a busy machine may take its time; what was to be late has been late."""
    own._settings = OffloadSettings(wait_seconds=30, timeout_seconds=30)


def held(child: FakeChild) -> None:
    child.go_on.clear()


def tasks(outcome: str) -> float:
    return REGISTRY.get_sample_value("process_pool_tasks_total", {"outcome": outcome}) or 0


def gauge(name: str) -> float:
    return REGISTRY.get_sample_value(f"process_pool_{name}") or 0


def fail(kind: str) -> None:
    raise {
        "value": ValueError("boom"),
        "not found": NotFound("boom"),
        "own": TwoPartsError("boom", 1),
    }[kind]


class TwoPartsError(Exception):
    """Cannot be made again from its own arguments, as many libraries' errors."""

    def __init__(self, first: str, second: int) -> None:
        super().__init__(f"{first} {second}")


async def test_no_process_starts_before_the_first_computation_and_one_serves_many() -> None:
    family = Family()
    own = pool(family)
    assert family.children == []
    assert [await own.run(divmod, n, 3) for n in range(3)] == [(0, 0), (0, 1), (0, 2)]
    assert len(family.children) == 1
    await own.close(grace_seconds=1)
    assert not family.children[0].killed


async def test_as_many_run_at_once_as_there_are_processes_and_the_others_wait() -> None:
    family = Family(held)
    own = pool(family, size=2)
    before = tasks("done")
    async with asyncio.TaskGroup() as group:
        for n in range(3):
            group.create_task(own.run(abs, n))
        await until(lambda: gauge("waiting") == 1)
        assert gauge("active") == len(family.children) == 2
        for each in family.children:
            each.go_on.set()
    assert len(family.children) == 2
    assert (gauge("active"), gauge("waiting"), tasks("done") - before) == (0, 0, 3)


async def test_more_that_wait_than_may_are_refused_at_once() -> None:
    family = Family(held)
    own = pool(family, max_waiting=1)
    before = tasks("refused")
    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(own.run(abs, 1))
        await until(lambda: gauge("waiting") == 1)
        with pytest.raises(ProcessPoolFull) as caught:
            await own.run(abs, 1)
        family.children[0].go_on.set()
    assert (caught.value.status, caught.value.retry_after_seconds) == (503, 1)
    assert tasks("refused") - before == 1


async def test_who_has_waited_too_long_is_refused() -> None:
    family = Family(held)
    own = pool(family, wait_seconds=0.01)
    async with asyncio.TaskGroup() as group:
        group.create_task(own.run(abs, 1))
        await until(lambda: gauge("active") == 1)
        with pytest.raises(ProcessPoolFull):
            await own.run(abs, 1)
        assert gauge("waiting") == 0
        family.children[0].go_on.set()


async def test_a_computation_over_its_time_is_ended_and_its_process_replaced() -> None:
    family = Family(held)
    own = pool(family, timeout_seconds=0.01)
    before = tasks("timeout")
    with pytest.raises(ComputationTimeout) as caught:
        await own.run(abs, 1)
    assert caught.value.status == 504
    assert family.children[0].killed
    family._prepare = lambda _: None
    patient(own)
    assert await own.run(abs, -1) == 1
    assert tasks("timeout") - before == 1


async def test_the_slot_of_an_ended_process_is_free_when_nothing_is_left_of_it() -> None:
    def slow_to_die(child: FakeChild) -> None:
        held(child)
        child.mute = True

    family = Family(slow_to_die)
    own = pool(family, timeout_seconds=0.01, wait_seconds=0.01)
    slow = asyncio.create_task(catch(own.run(abs, 1)))
    await until(lambda: family.children and family.children[0].killed)
    with pytest.raises(ProcessPoolFull):
        await own.run(abs, 1)
    assert len(family.children) == 1
    family.children[0].end()
    assert isinstance(await slow, ComputationTimeout)
    family._prepare = lambda _: None
    patient(own)
    assert await own.run(abs, -1) == 1


async def test_a_cancelled_caller_ends_its_computation_and_leaves_the_pool_whole() -> None:
    family = Family(held)
    own = pool(family)
    before = tasks("cancelled")
    caller = asyncio.create_task(own.run(abs, 1))
    await until(lambda: family.children and family.children[0].jobs)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert family.children[0].killed
    family._prepare = lambda _: None
    assert await own.run(abs, -1) == 1
    assert (gauge("active"), tasks("cancelled") - before) == (0, 1)


async def test_a_process_that_ends_in_the_middle_is_a_503_and_the_next_call_has_a_new_one() -> None:
    family = Family(held)
    own = pool(family)
    before = tasks("lost")
    async with asyncio.TaskGroup() as group:
        lost = group.create_task(catch(own.run(abs, 1)))
        await until(lambda: family.children and family.children[0].jobs)
        family.children[0].end()
    assert isinstance(lost.result(), ComputationLost)
    assert lost.result().status == 503
    family._prepare = lambda _: None
    assert await own.run(abs, -1) == 1
    assert tasks("lost") - before == 1


async def catch(call: Any) -> Any:
    try:
        return await call
    except Exception as error:  # noqa: BLE001
        return error


async def test_an_idle_process_that_ended_is_replaced_without_a_failure() -> None:
    family = Family()
    own = pool(family)
    await own.run(abs, 1)
    family.children[0].end()
    with capture_logs() as events:
        assert await own.run(abs, -1) == 1
    assert len(family.children) == 2
    assert "idle process of the pool died" in events[0]["event"]


async def test_a_process_that_cannot_be_started_is_a_503_and_takes_no_slot() -> None:
    def refuse(_: FakeChild) -> None:
        raise BlockingIOError("no more processes")

    family = Family(refuse)
    own = pool(family)
    for _ in range(2):
        with pytest.raises(ComputationLost):
            await own.run(abs, 1)
    family._prepare = lambda _: None
    assert await own.run(abs, -1) == 1


async def test_a_process_that_never_begins_is_ended_and_a_504() -> None:
    family = Family(lambda child: child.begun.clear())
    own = pool(family, timeout_seconds=0.01)
    with pytest.raises(ComputationTimeout):
        await own.run(abs, 1)
    assert family.children[0].killed


async def test_shutdown_waits_for_computations_and_takes_no_more() -> None:
    family = Family(held)
    own = pool(family)
    caller = asyncio.create_task(own.run(abs, -1))
    await until(lambda: gauge("active") == 1)
    closing = asyncio.create_task(own.close(grace_seconds=5))
    await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="restarting"):
        await own.run(abs, 1)
    family.children[0].go_on.set()
    await closing
    assert await caller == 1
    assert not family.children[0].alive
    assert not family.children[0].killed


async def test_what_outlasts_the_grace_is_killed_and_reported() -> None:
    family = Family(held)
    own = pool(family)
    caller = asyncio.create_task(catch(own.run(abs, 1)))
    await until(lambda: gauge("active") == 1)
    with capture_logs() as events:
        await own.close(grace_seconds=0.01)
    assert isinstance(await caller, ComputationLost)
    assert family.children[0].killed
    assert [(e["event"], e["count"]) for e in events] == [("computations killed at shutdown", 1)]


async def test_a_shutdown_over_its_deadline_still_kills_what_runs() -> None:
    family = Family(held)
    own = pool(family)
    caller = asyncio.create_task(catch(own.run(abs, 1)))
    await until(lambda: gauge("active") == 1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await own.close(grace_seconds=60)
    assert family.children[0].killed
    assert isinstance(await caller, ComputationLost)


@pytest.mark.parametrize(("kind", "error"), [("value", ValueError), ("not found", NotFound)])
async def test_what_a_computation_raises_is_raised_here_with_its_traceback_there(
    kind: str, error: type[Exception]
) -> None:
    before = tasks("failed")
    with pytest.raises(error, match="boom") as caught:
        await pool(Family()).run(fail, kind)
    assert isinstance(caught.value.__cause__, ChildTraceback)
    assert "in fail" in str(caught.value.__cause__)
    assert tasks("failed") - before == 1


async def test_an_error_that_cannot_be_made_again_is_told_in_words() -> None:
    with pytest.raises(JobError, match="TwoPartsError: boom 1") as caught:
        await pool(Family()).run(fail, "own")
    assert "in fail" in str(caught.value.__cause__)


async def test_a_computation_that_would_end_its_process_is_an_error_alone() -> None:
    own = pool(Family())
    with pytest.raises(JobError, match="SystemExit: 3"):
        await own.run(exit_with, 3)
    assert await own.run(abs, -1) == 1


def exit_with(status: int) -> None:
    raise SystemExit(status)


def lock(_: int) -> object:
    return threading.Lock()


class OneWay:
    """Pickles, and cannot be unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (fail, ("value",))


def one_way() -> OneWay:
    return OneWay()


async def test_what_cannot_be_sent_is_named_and_breaks_nothing() -> None:
    family = Family()
    own = pool(family)
    with pytest.raises(NotPicklable, match=r"<lambda> or its arguments cannot be pickled"):
        await own.run(lambda: 1)
    with pytest.raises(NotPicklable, match="arguments cannot be pickled"):
        await own.run(str, threading.Lock())
    with pytest.raises(NotPicklable, match="the result of lock cannot be pickled"):
        await own.run(lock, 1)
    with pytest.raises(NotPicklable, match="the result of one_way cannot be unpickled"):
        await own.run(one_way)
    assert await own.run(abs, -1) == 1
    assert len(family.children) == 1


async def test_a_job_tells_whose_request_it_is_for() -> None:
    family = Family()
    with bound_contextvars(request_id="abc", user=object):
        await pool(family).run(abs, 1)
    [job] = family.children[0].jobs
    assert job.log_context == {"request_id": "abc", "user": "<class 'object'>"}
