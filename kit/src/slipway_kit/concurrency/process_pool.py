"""A process pool; each process runs one call at a time.

`concurrent.futures.ProcessPoolExecutor` breaks all its processes and calls when one process is
killed for a timeout. `anyio.to_process` starts processes that write no log lines, receive Ctrl-C
and outlive a killed worker.
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
from dataclasses import dataclass
from typing import Any, Self, TypeVar, TypeVarTuple, Unpack

import anyio
import structlog
from anyio.abc import Process
from pydantic import Field
from pydantic_settings import SettingsConfigDict

from slipway_kit.clock import now
from slipway_kit.config.group import Group
from slipway_kit.errors import DeadlineExceeded, Overloaded, Unavailable
from slipway_kit.metrics.instruments import Counter, Gauge, Histogram
from slipway_kit.pool_child import LENGTH, Answer, Job, NotPicklable, describe, dumps
from slipway_kit.trace_context import carrier

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
log = structlog.get_logger()

# Runs in the child before any other import. It gets the worker's sys.path, which gunicorn may have
# changed.
_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]);"
    " from slipway_kit.pool_child import serve; serve(int(sys.argv[2]), int(sys.argv[3]))"
)
# After this time a process that was asked to exit is killed.
_EXIT_SECONDS = 1.0

SIZE = Gauge("process_pool_size", "Computations that may run at once.")
ACTIVE = Gauge("process_pool_active", "Computations that run now.")
WAITING = Gauge("process_pool_waiting", "Computations that wait for a process.")
QUEUE_SECONDS = Histogram(
    "process_pool_queue_seconds",
    "Queueing delay of a computation, waiting for a free process.",
    buckets=(0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
TASKS = Counter(
    "process_pool_tasks_total",
    "Computations by outcome: done, failed, timeout, lost, cancelled or refused.",
    ["outcome"],
)


class OffloadSettings(Group):
    """Size and time limits of the process pool of one worker."""

    model_config = SettingsConfigDict(env_prefix="PROCESS_POOL_")

    size: int = Field(
        default=1,
        ge=1,
        le=64,
        description="processes of the pool, per worker; started at first use",
    )
    memory_mib: int = Field(default=48, ge=16, description="memory budget of one process, MiB")
    max_waiting: int = Field(
        default=16,
        ge=0,
        le=10_000,
        description="computations that may wait for a process, else 503",
    )
    wait_seconds: float = Field(
        default=2, gt=0, le=60, description="seconds that a computation may wait, else 503"
    )
    timeout_seconds: float = Field(
        default=5, gt=0, le=3600, description="seconds that a computation may run, else 504"
    )

    @property
    def children_mib(self) -> int:
        """Memory budget of all processes of one worker, MiB."""
        return self.size * self.memory_mib


class ComputationTimeout(DeadlineExceeded):
    """A computation ran longer than PROCESS_POOL_TIMEOUT_SECONDS and was killed."""

    detail = "The computation took too long."


class ComputationLost(Unavailable):
    """The process died before the computation had a result."""

    detail = "The computation was interrupted; try again."


class ProcessPoolFull(Overloaded):
    """Every process is busy, and the queue is full or the queueing delay too long."""

    detail = "Too many computations are running; try again soon."


class ChildTraceback(Exception):
    """The traceback in the child process, as text; the cause of the error raised here."""

    def __str__(self) -> str:
        return f"in a child process\n{self.args[0]}"


@dataclass(eq=False)
class Child:
    """A child process that runs one job at a time, and the socket to it."""

    process: Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    async def start(cls) -> Self:
        """Start a process from the main thread; the kernel kills it when that thread ends."""
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        descriptor, path = theirs.fileno(), json.dumps(sys.path)
        # The child must write no metrics: nothing would remove its files.
        environment = {k: v for k, v in os.environ.items() if k != "PROMETHEUS_MULTIPROC_DIR"}
        try:
            with theirs:
                process = await anyio.open_process(
                    [sys.executable, "-c", _PROGRAM, path, str(descriptor), str(os.getpid())],
                    stdin=subprocess.DEVNULL,
                    stdout=None,
                    stderr=None,
                    env=environment,
                    pass_fds=[descriptor],
                    # Ctrl-C goes to the whole process group; the worker ends its children itself.
                    start_new_session=True,
                )
        except BaseException:
            # A process exits when the other end of its socket is closed.
            writer.close()
            raise
        return cls(process, reader, writer)

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process.returncode is None

    async def run(self, job: bytes) -> bytes:
        """Return the answer to `job`; raise `OSError` or `EOFError` when the process died."""
        # No length is needed: a pickle marks its own end.
        self.writer.write(pickle.dumps(job))
        await self.writer.drain()
        [length] = LENGTH.unpack(await self.reader.readexactly(LENGTH.size))
        return await self.reader.readexactly(length)

    async def stop(self) -> None:
        """Ask the process to exit, and kill it after `_EXIT_SECONDS`."""
        self.writer.close()
        try:
            async with asyncio.timeout(_EXIT_SECONDS):
                await self.process.wait()
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """Kill the process and wait until it is gone."""
        with suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()
        # A caller that still waits for an answer gets an error.
        self.writer.close()


class ProcessPool:
    """Starts processes at first use, gives them jobs and replaces those that died."""

    def __init__(
        self,
        settings: OffloadSettings,
        *,
        start: Callable[[], Awaitable[Child]] = Child.start,
        prepare: bytes | None = None,
    ) -> None:
        self._settings, self._start, self._prepare = settings, start, prepare
        self._slots, self._waiting = asyncio.Semaphore(settings.size), 0
        self._idle: list[Child] = []
        self._busy: set[Child] = set()
        self._closed = False
        SIZE.set(settings.size)

    async def run(self, call: Callable[[Unpack[Ts]], T], *args: *Ts) -> T:
        """Return `call(*args)`, or raise its error with the child's traceback as the cause.

        Raises `NotPicklable`, `ProcessPoolFull`, `ComputationTimeout` or `ComputationLost`.
        Cancelling the caller kills the process.
        """
        context = structlog.contextvars.get_contextvars()
        bound = {name: str(value) for name, value in context.items()}
        what = f"{describe(call)} or its arguments"
        job = dumps(Job(call, args, bound, carrier(), self._prepare), what)
        await self._take_slot()
        outcome = "cancelled"
        try:
            with ACTIVE.track_inprogress():
                answer = await self._answer(job)
            outcome = "failed"
            result: T = _result(answer, call)
            outcome = "done"
        except (ComputationTimeout, ComputationLost) as error:
            outcome = "timeout" if isinstance(error, ComputationTimeout) else "lost"
            raise
        finally:
            TASKS.labels(outcome).inc()
        return result

    async def close(self, *, grace_seconds: float) -> None:
        """Refuse new jobs, wait for running ones up to `grace_seconds`, then end every process."""
        self._closed = True
        try:
            async with asyncio.timeout(grace_seconds):
                for _ in range(self._settings.size):
                    await self._slots.acquire()
        except TimeoutError:
            log.warning("computations killed at shutdown", count=len(self._busy))
        finally:
            stopping = [child.stop() for child in self._idle]
            await asyncio.gather(*stopping, *(child.kill() for child in self._busy))

    def sample(self) -> None:
        """Drop idle processes that died."""
        dead = [child for child in self._idle if not child.alive]
        if dead:
            self._idle = [child for child in self._idle if child not in dead]
            log.warning("idle process of the pool died; the next computation starts another")

    async def _take_slot(self) -> None:
        if self._closed:
            TASKS.labels("refused").inc()
            raise Unavailable("The service is restarting; try again.")
        if self._slots.locked() and self._waiting >= self._settings.max_waiting:
            TASKS.labels("refused").inc()
            raise ProcessPoolFull
        started = now()
        self._waiting += 1
        try:
            with WAITING.track_inprogress():
                async with asyncio.timeout(self._settings.wait_seconds):
                    await self._slots.acquire()
        except TimeoutError:
            TASKS.labels("refused").inc()
            raise ProcessPoolFull from None
        finally:
            self._waiting -= 1
        QUEUE_SECONDS.observe(now() - started)

    async def _answer(self, job: bytes) -> bytes:
        """Run a job in the slot that was taken; kill the process when it does not answer."""
        try:
            self.sample()
            async with asyncio.timeout(self._settings.timeout_seconds):
                child = self._idle.pop() if self._idle else await self._start()
                self._busy.add(child)
                try:
                    answer = await child.run(job)
                except BaseException:
                    # Wait for the end, so that there are never more processes than slots.
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


def _result(message: bytes, call: Callable[..., Any]) -> Any:
    try:
        answer: Answer = pickle.loads(message)  # noqa: S301 (from our own child)
    except Exception as error:
        text = f"the result of {describe(call)} cannot be unpickled: {error}"
        raise NotPicklable(text) from error
    if answer.error is not None:
        raise answer.error from ChildTraceback(answer.trace)
    return answer.result
