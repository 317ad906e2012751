"""A pool of processes that compute, each answering one call at a time.

Not `concurrent.futures.ProcessPoolExecutor`, which gives up all its processes and calls when a call
over its time is ended, and not `anyio.to_process`, whose processes write no log lines, get Ctrl-C
and outlive a killed worker: see the decision record of the process pool.
"""

import asyncio
import json
import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Self, TypeVar, TypeVarTuple, Unpack

import anyio
import structlog
from anyio.abc import Process

from slipway_kit.clock import now
from slipway_kit.errors import DeadlineExceeded, Overloaded, Unavailable
from slipway_kit.metrics.instruments import Counter, Gauge, Histogram
from slipway_kit.pool_child import HEAD, Answer, Job, NotPicklable, describe
from slipway_kit.trace_context import carrier

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
log = structlog.get_logger()

# Runs in the child before anything of ours is imported. The worker's own path, which gunicorn may
# have changed, finds the same modules.
_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]);"
    " from slipway_kit.pool_child import serve; serve(int(sys.argv[2]), int(sys.argv[3]))"
)
# A process that was told to leave is gone after so long.
_LEAVE_SECONDS = 1.0

SIZE = Gauge("process_pool_size", "Computations that may run at once.")
ACTIVE = Gauge("process_pool_active", "Computations that run now.")
WAITING = Gauge("process_pool_waiting", "Computations that wait for a process.")
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


class ComputationTimeout(DeadlineExceeded):
    """A computation ran longer than PROCESS_POOL_TIMEOUT_SECONDS and was ended."""

    detail = "The computation took too long."


class ComputationLost(Unavailable):
    """The process of a computation ended before it had an answer."""

    detail = "The computation was interrupted; try again."


class ProcessPoolFull(Overloaded):
    """Every process is busy, and those that wait are as many, or have waited as long, as may."""

    detail = "Too many computations run already; try again soon."


class JobError(Exception):
    """A computation raised something that cannot be raised here; the text names it."""


class ChildTraceback(Exception):
    """The cause of an error that was raised in a child: its traceback there, as text."""

    def __str__(self) -> str:
        return f"in a child process\n{self.args[0]}"


class Child:
    """A process that does one job at a time, and the socket to it."""

    def __init__(
        self, process: Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._process, self._reader, self._writer = process, reader, writer

    @classmethod
    async def start(cls) -> Self:
        """Start one, in the main thread: the kernel ends it with the thread that it comes from."""
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        try:
            with theirs:
                return cls(await _open(theirs.fileno()), reader, writer)
        except BaseException:
            # A process whose socket has no other end leaves by itself.
            writer.close()
            raise

    @property
    def lives(self) -> bool:
        """Whether it can take a job."""
        return self._process.returncode is None

    async def run(self, job: bytes) -> bytes:
        """Return the answer to `job`; raise `OSError` or `EOFError` when it ended meanwhile."""
        # A pickle says where it ends.
        self._writer.write(pickle.dumps(job))
        await self._writer.drain()
        [length] = HEAD.unpack(await self._reader.readexactly(HEAD.size))
        return await self._reader.readexactly(length)

    async def leave(self) -> None:
        """Tell it to end, and kill it when it takes too long."""
        self._writer.close()
        try:
            async with asyncio.timeout(_LEAVE_SECONDS):
                await self._process.wait()
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """End it whatever it does, and return when nothing is left of it."""
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        # Who waits for its answer is told that it has none.
        self._writer.close()


class ProcessPool:
    """Starts processes at their first use, hands out jobs and replaces what ended."""

    def __init__(  # noqa: PLR0913 (bounds of one thing)
        self,
        start: Callable[[], Awaitable[Child]] = Child.start,
        *,
        size: int,
        max_waiting: int,
        wait_seconds: float,
        timeout_seconds: float,
        prepare: bytes | None = None,
    ) -> None:
        self._start, self._size, self._prepare = start, size, prepare
        self._max_waiting, self._wait_seconds = max_waiting, wait_seconds
        self._timeout_seconds = timeout_seconds
        self._slots = asyncio.Semaphore(size)
        self._waiting = 0
        self._idle: list[Child] = []
        self._busy: set[Child] = set()
        self._closed = False

    async def run(self, call: Callable[[Unpack[Ts]], T], *args: *Ts) -> T:
        """Return `call(*args)`, or raise what it raised, with the traceback there as its cause.

        Raises `NotPicklable`, `ProcessPoolFull`, `ComputationTimeout` or `ComputationLost`. A
        caller that is cancelled ends the computation.
        """
        job = self._pickled(call, args)
        await self._take_slot()
        outcome = "cancelled"
        try:
            with ACTIVE.track_inprogress():
                answer = await self._answer(job)
            outcome = "failed"
            result: T = _unpickled(answer, call)
            outcome = "done"
        except (ComputationTimeout, ComputationLost) as error:
            outcome = "timeout" if isinstance(error, ComputationTimeout) else "lost"
            raise
        finally:
            TASKS.labels(outcome).inc()
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
            leaving = [child.leave() for child in self._idle]
            await asyncio.gather(*leaving, *(child.kill() for child in self._busy))

    def sample(self) -> None:
        """Let go of idle processes that somebody else ended."""
        dead = [child for child in self._idle if not child.lives]
        if dead:
            self._idle = [child for child in self._idle if child not in dead]
            log.warning("an idle process of the pool ended; the next computation starts another")

    async def _take_slot(self) -> None:
        if self._closed:
            TASKS.labels("refused").inc()
            raise Unavailable("The service is restarting; try again.")
        if self._slots.locked() and self._waiting >= self._max_waiting:
            TASKS.labels("refused").inc()
            raise ProcessPoolFull
        started = now()
        self._waiting += 1
        try:
            with WAITING.track_inprogress():
                async with asyncio.timeout(self._wait_seconds):
                    await self._slots.acquire()
        except TimeoutError:
            TASKS.labels("refused").inc()
            raise ProcessPoolFull from None
        finally:
            self._waiting -= 1
        QUEUE_SECONDS.observe(now() - started)

    async def _answer(self, job: bytes) -> bytes:
        """Have a process do a job for the slot that was taken; one that did not do it is killed."""
        try:
            self.sample()
            async with asyncio.timeout(self._timeout_seconds):
                child = self._idle.pop() if self._idle else await self._start()
                self._busy.add(child)
                try:
                    answer = await child.run(job)
                except BaseException:
                    # Until nothing is left of it: never are there more processes than slots.
                    await child.kill()
                    raise
                finally:
                    self._busy.discard(child)
            self._idle.append(child)
        except TimeoutError as error:
            raise ComputationTimeout from error
        except (OSError, EOFError) as error:
            raise ComputationLost from error
        finally:
            self._slots.release()
        return answer

    def _pickled(self, call: Callable[..., Any], args: tuple[Any, ...]) -> bytes:
        context = structlog.contextvars.get_contextvars()
        bound = {name: str(value) for name, value in context.items()}
        try:
            return pickle.dumps(Job(call, args, bound, carrier(), self._prepare))
        except Exception as error:
            message = f"{describe(call)} or its arguments cannot be pickled: {error}"
            raise NotPicklable(message) from error


def _unpickled(message: bytes, call: Callable[..., Any]) -> Any:
    try:
        answer: Answer = pickle.loads(message)  # noqa: S301 (from our own child)
    except Exception as error:
        text = f"the result of {describe(call)} cannot be unpickled: {error}"
        raise NotPicklable(text) from error
    if answer.trace:
        raise (answer.error or JobError(answer.text)) from ChildTraceback(answer.trace)
    return answer.result


async def _open(descriptor: int) -> Process:
    # Its metrics would be written to files that nobody removes.
    environment = {k: v for k, v in os.environ.items() if k != "PROMETHEUS_MULTIPROC_DIR"}
    path = json.dumps(sys.path)
    return await anyio.open_process(
        [sys.executable, "-c", _PROGRAM, path, str(descriptor), str(os.getpid())],
        stdin=subprocess.DEVNULL,
        stdout=None,
        stderr=None,
        env=environment,
        pass_fds=[descriptor],
        # Signals to the service's group, such as Ctrl-C, are for the worker: it ends its children.
        start_new_session=True,
    )
