"""A pool of processes that compute, each answering one call at a time.

Not `concurrent.futures.ProcessPoolExecutor`: that gives up all its processes and all their calls
when one of them ends, which is how a call over its time has to be ended, or when the error of a
call cannot be unpickled. It also starts two threads, and a process more for its semaphores.
"""

import asyncio
import pickle
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar, TypeVarTuple, Unpack

import structlog

from slipway_kit.concurrency.child_process import Computer, ended
from slipway_kit.errors import DeadlineExceeded, Overloaded, Unavailable
from slipway_kit.metrics.instruments import Counter, Gauge, Histogram
from slipway_kit.pool_child import Done, Failed, Job, NotPicklable, describe
from slipway_kit.trace_context import carrier

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
log = structlog.get_logger()

SIZE = Gauge("process_pool_size", "Computations that may run at once.", multiprocess_mode="livesum")
ACTIVE = Gauge("process_pool_active", "Computations that run now.", multiprocess_mode="livesum")
WAITING = Gauge(
    "process_pool_waiting", "Computations that wait for a process.", multiprocess_mode="livesum"
)
QUEUE_SECONDS = Histogram(
    "process_pool_queue_seconds",
    "How long a computation waited for a process that was busy.",
    buckets=(0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
TASKS = Counter(
    "process_pool_tasks_total",
    "Computations by outcome: done, failed, timeout, lost, cancelled or refused.",
    ["outcome"],
)
_OUTCOMES = {
    name: TASKS.labels(name)
    for name in ("done", "failed", "timeout", "lost", "cancelled", "refused")
}


class ComputationTimeout(DeadlineExceeded):
    """A computation ran longer than PROCESS_POOL_TIMEOUT_SECONDS and was ended."""

    def __init__(self) -> None:
        super().__init__("The computation took too long.")


class ComputationLost(Unavailable):
    """The process of a computation ended before it had an answer."""

    def __init__(self) -> None:
        super().__init__("The computation was interrupted; try again.")


class ProcessPoolFull(Overloaded):
    """Every process is busy, and those that wait are as many, or have waited as long, as may."""

    def __init__(self) -> None:
        super().__init__("Too many computations run already; try again soon.")


class JobError(Exception):
    """A computation raised something that cannot be raised here; the text names it."""


class ChildTraceback(Exception):
    """The cause of an error that was raised in a child: its traceback there, as text."""

    def __str__(self) -> str:
        return f"in a child process\n{self.args[0]}"


class ProcessPool:
    """Starts processes at their first use, hands out jobs and replaces what ended."""

    def __init__(
        self,
        start: Callable[[], Computer],
        *,
        size: int,
        max_waiting: int,
        wait_seconds: float,
        timeout_seconds: float,
    ) -> None:
        self._start, self._size = start, size
        self._max_waiting, self._wait_seconds = max_waiting, wait_seconds
        self._timeout_seconds = timeout_seconds
        self._slots = asyncio.Semaphore(size)
        self._waiting = 0
        self._idle: list[Computer] = []
        self._busy: set[Computer] = set()
        self._burials: set[asyncio.Task[None]] = set()
        self._closed = False

    async def run(self, call: Callable[[Unpack[Ts]], T], *args: *Ts) -> T:
        """Return `call(*args)`, or raise what it raised, with the traceback there as its cause.

        Raises `NotPicklable`, `ProcessPoolFull`, `ComputationTimeout` or `ComputationLost`. A
        caller that is cancelled ends the computation.
        """
        job = _pickled(call, args)
        await self._take_slot()
        with _counted() as count:
            answer = await self._answer(job, count)
            result: T = _unpickled(answer, call, count)
        return result

    async def close(self, *, grace_seconds: float) -> None:
        """Take no more jobs, wait for those that run, then end every process."""
        self._closed = True
        try:
            async with asyncio.timeout(grace_seconds):
                for _ in range(self._size):
                    await self._slots.acquire()
        except TimeoutError:
            log.warning("computations ended at shutdown", count=len(self._busy))
        finally:
            idle, self._idle = self._idle, []
            for child in idle:
                child.leave()
            for child in self._busy:
                child.kill()
            for child in (*idle, *self._busy):
                await ended(child)
            await asyncio.gather(*self._burials)

    def sample(self) -> None:
        """Let go of idle processes that somebody else ended."""
        dead = [child for child in self._idle if not child.lives]
        for child in dead:
            self._idle.remove(child)
            child.leave()
            log.warning("an idle process of the pool ended; the next computation starts another")

    async def _take_slot(self) -> None:
        if self._closed:
            _OUTCOMES["refused"].inc()
            raise Unavailable("The service is restarting; try again.")
        started = time.perf_counter()
        if self._slots.locked():
            await self._wait()
        else:
            await self._slots.acquire()
        QUEUE_SECONDS.observe(time.perf_counter() - started)

    async def _wait(self) -> None:
        if self._waiting >= self._max_waiting:
            _OUTCOMES["refused"].inc()
            raise ProcessPoolFull
        self._waiting += 1
        try:
            with WAITING.track_inprogress():
                async with asyncio.timeout(self._wait_seconds):
                    await self._slots.acquire()
        except TimeoutError:
            _OUTCOMES["refused"].inc()
            raise ProcessPoolFull from None
        finally:
            self._waiting -= 1

    async def _answer(self, job: bytes, count: "_Count") -> bytes:
        try:
            async with self._child() as child:
                await self._begin(child)
                async with asyncio.timeout(self._timeout_seconds):
                    return await child.run(job)
        except TimeoutError as error:
            count.outcome = "timeout"
            raise ComputationTimeout from error
        except (OSError, EOFError) as error:
            count.outcome = "lost"
            raise ComputationLost from error

    async def _begin(self, child: Computer) -> None:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await child.begin()
        except TimeoutError as error:
            raise EOFError("a process of the pool did not start in time") from error

    @asynccontextmanager
    async def _child(self) -> AsyncIterator[Computer]:
        """Lend a process for the slot that was taken; it is ended when the block raises."""
        try:
            self.sample()
            child = self._idle.pop() if self._idle else self._start()
        except BaseException:
            self._slots.release()
            raise
        self._busy.add(child)
        try:
            yield child
        except BaseException:
            child.kill()
            burial = asyncio.create_task(self._bury(child))
            self._burials.add(burial)
            burial.add_done_callback(self._burials.discard)
            raise
        self._busy.discard(child)
        self._idle.append(child)
        self._slots.release()

    async def _bury(self, child: Computer) -> None:
        """Free the slot of a process when it is gone: never are there more than slots."""
        try:
            await child.ended()
        finally:
            self._busy.discard(child)
            self._slots.release()


class _Count:
    outcome = "cancelled"


@contextmanager
def _counted() -> Iterator[_Count]:
    count = _Count()
    try:
        with ACTIVE.track_inprogress():
            yield count
    finally:
        _OUTCOMES[count.outcome].inc()


def _pickled(call: Callable[..., Any], args: tuple[Any, ...]) -> bytes:
    bound = {name: str(value) for name, value in structlog.contextvars.get_contextvars().items()}
    try:
        return pickle.dumps(Job(call, args, bound, carrier()))
    except Exception as error:
        message = f"{describe(call)} or its arguments cannot be pickled: {error}"
        raise NotPicklable(message) from error


def _unpickled(answer: bytes, call: Callable[..., Any], count: _Count) -> Any:
    count.outcome = "failed"
    try:
        found = pickle.loads(answer)  # noqa: S301 (from our own child)
    except Exception as error:
        message = f"the result of {describe(call)} cannot be unpickled: {error}"
        raise NotPicklable(message) from error
    if isinstance(found, Failed):
        raised = JobError(found.text) if found.error is None else found.error
        raise raised from ChildTraceback(found.trace)
    assert isinstance(found, Done)  # noqa: S101 (there is nothing else)
    count.outcome = "done"
    return found.result
