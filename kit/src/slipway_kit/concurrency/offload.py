"""Keep the event loop free: threads for calls that block, processes for calls that compute.

A process costs 41 ms at its first call and 14 MiB resident (9 MiB its share), more once its calls
can log; a later call costs 0.1 ms (uvloop, Python 3.11, two cores). What the libraries' own pools
cost is in the decision record of the process pool.
"""

import pickle
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar, TypeVarTuple, Unpack

import anyio.to_thread
from anyio import CapacityLimiter
from pydantic import Field
from pydantic_settings import SettingsConfigDict

from slipway_kit.concurrency import process_pool, thread_pool
from slipway_kit.concurrency.process_pool import ProcessPool
from slipway_kit.concurrency.thread_pool import ThreadPools
from slipway_kit.config.group import Group

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class OffloadSettings(Group):
    """How many processes may compute for one worker, and for how long."""

    model_config = SettingsConfigDict(env_prefix="PROCESS_POOL_")

    size: int = Field(
        default=1, ge=1, le=64, description="processes that compute, per worker; started when used"
    )
    memory_mib: int = Field(default=48, ge=16, description="memory reckoned for each, MiB")
    max_waiting: int = Field(
        default=16, ge=0, le=10_000, description="computations that may wait for one, else 503"
    )
    wait_seconds: float = Field(
        default=2, gt=0, le=60, description="seconds that a computation may wait, else 503"
    )
    timeout_seconds: float = Field(
        default=5, gt=0, le=3600, description="seconds that a computation may run, else 504"
    )

    @property
    def children_mib(self) -> int:
        """Memory that all processes of one worker take."""
        return self.size * self.memory_mib


class Offload(ThreadPools):
    """Runs calls away from the event loop of one worker, in its threads and processes."""

    def __init__(
        self, threads: CapacityLimiter, processes: ProcessPool, *, wait_seconds: float
    ) -> None:
        super().__init__(threads, wait_seconds=wait_seconds)
        self._processes = processes

    async def compute(self, call: Callable[[Unpack[Ts]], T], *args: *Ts) -> T:
        """Return `call(*args)` from another process: for arithmetic longer than a millisecond.

        In a thread it would hold up the loop. Call, arguments and result are pickled, so the call
        is a function at the top of a module, and that module should import little. What it raises
        is raised here. Raises `Overloaded` (503) when too many wait, `DeadlineExceeded` (504) when
        it runs over PROCESS_POOL_TIMEOUT_SECONDS, `Unavailable` (503) when its process ended, and
        `NotPicklable` for a value that cannot be sent.
        """
        return await self._processes.run(call, *args)

    def sample(self) -> None:
        """Set the gauges that no event sets."""
        super().sample()
        self._processes.sample()


@asynccontextmanager
async def open_offload(
    settings: OffloadSettings,
    *,
    threads_wait_seconds: float = 2,
    grace_seconds: float = 1,
    prepare: Callable[[], object] | None = None,
) -> AsyncIterator[Offload]:
    """Give an `Offload`; at the end what runs has `grace_seconds`, then processes are killed.

    A process that computes calls `prepare` before its first job that can log.
    """
    default = anyio.to_thread.current_default_thread_limiter()
    processes = ProcessPool(
        size=settings.size,
        max_waiting=settings.max_waiting,
        wait_seconds=settings.wait_seconds,
        timeout_seconds=settings.timeout_seconds,
        prepare=prepare and pickle.dumps(prepare),
    )
    process_pool.SIZE.set(settings.size)
    with thread_pool.measured(default):
        offload = Offload(default, processes, wait_seconds=threads_wait_seconds)
        try:
            yield offload
        finally:
            try:
                await offload.drain(grace_seconds=grace_seconds)
            finally:
                await processes.close(grace_seconds=grace_seconds)
