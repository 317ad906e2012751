"""Background tasks that outlive their request; their errors are logged.

They live in memory: a killed pod loses them. Work that must survive belongs in a table or a broker.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, ParamSpec, Self

import structlog

from slipway_kit.metrics.instruments import Counter, Gauge
from slipway_kit.request_context import without_deadline

P = ParamSpec("P")
log = structlog.get_logger()

RUNNING = Gauge("tasks_running", "Background tasks that are running.")
FINISHED = Counter(
    "tasks_finished_total", "Background tasks by outcome: done, failed or cancelled.", ["outcome"]
)


class Tasks:
    """Holds a reference to every background task, logs its error, and drains it at shutdown."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()
        self._closed = False

    def spawn(
        self,
        function: Callable[P, Coroutine[Any, Any, Any]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> asyncio.Task[Any]:
        """Start `function(*args)` as a task; logs call it by the name of the function.

        Raises `RuntimeError` when the drain at shutdown is over.
        """
        name = function.__qualname__
        if self._closed:
            raise RuntimeError(f"task {name} was started after the service had closed its tasks")
        task = asyncio.create_task(function(*args, **kwargs), name=name, context=without_deadline())
        self._running.add(task)
        task.add_done_callback(self._finished)
        RUNNING.inc()
        return task

    def __len__(self) -> int:
        """Count the running tasks."""
        return len(self._running)

    @asynccontextmanager
    async def running(self, *, grace_seconds: float) -> AsyncIterator[Self]:
        """Drain the tasks at the end of the block."""
        try:
            yield self
        finally:
            await self.drain(grace_seconds=grace_seconds)

    async def drain(self, *, grace_seconds: float) -> None:
        """Wait for the tasks and those that they spawn, then cancel the rest."""
        late = await drain(self._running, grace_seconds=grace_seconds, give_up=self._close)
        if late:
            log.warning("tasks cancelled at shutdown", tasks=late, grace_seconds=grace_seconds)

    def _close(self) -> None:
        self._closed = True

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        RUNNING.dec()
        outcome = "cancelled" if task.cancelled() else "failed" if task.exception() else "done"
        FINISHED.labels(outcome).inc()
        if outcome == "failed":
            log.error("task failed", task=task.get_name(), exc_info=task.exception())


async def drain(
    running: set[asyncio.Task[Any]], *, grace_seconds: float, give_up: Callable[[], None]
) -> list[str]:
    """Wait until `running` is empty, then call `give_up`, cancel the rest and return its names.

    Each task must remove itself from the set when it ends. When the wait itself is cancelled, the
    rest is cancelled too.
    """
    late: list[str] = []
    try:
        async with asyncio.timeout(grace_seconds):
            while running:
                await asyncio.wait(running)
    except TimeoutError:
        late = sorted(task.get_name() for task in running)
    finally:
        give_up()
        left = list(running)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
    return late
