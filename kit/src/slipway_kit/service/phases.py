"""Named phases of the lifespan; each is logged with its duration and has a deadline."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TypeVar

import structlog

from slipway_kit.clock import now

T = TypeVar("T")
log = structlog.get_logger()


class PhaseOverrunError(Exception):
    """A start-up phase exceeded its deadline; the traceback shows where it waited."""


class Phases:
    """Opens resources in order; they close in reverse order."""

    def __init__(
        self,
        stack: AsyncExitStack,
        *,
        open_seconds: float,
        close_seconds: float,
        clock: Callable[[], float] = now,
    ) -> None:
        self._stack = stack
        self._open_seconds, self._close_seconds = open_seconds, close_seconds
        self._open_by: float | None = None
        self._close_by: float | None = None
        self._clock = clock

    async def open(
        self, name: str, resource: AbstractAsyncContextManager[T], *, seconds: float | None = None
    ) -> T:
        """Enter `resource` within `seconds` and the rest of the start-up time, or raise.

        An error while it closes is logged; the other resources still close.
        """
        started = self._clock()
        if self._open_by is None:
            self._open_by = started + self._open_seconds
        left = max(self._open_by - started, 0)
        limit = left if seconds is None else min(seconds, left)
        deadline = asyncio.timeout(limit)
        try:
            async with deadline:
                opened = await resource.__aenter__()
        except TimeoutError as error:
            if not deadline.expired():
                raise
            message = f"start-up phase {name} took longer than {limit:g} s"
            raise PhaseOverrunError(message) from error
        log.info("phase opened", phase=name, ms=self._ms(started))
        self._stack.push_async_callback(self._close, name, resource)
        return opened

    async def _close(self, name: str, resource: AbstractAsyncContextManager[object]) -> None:
        started = self._clock()
        if self._close_by is None:
            self._close_by = started + self._close_seconds
        try:
            async with asyncio.timeout(max(self._close_by - started, 0)):
                await resource.__aexit__(None, None, None)
        except Exception:
            log.exception("phase failed to close", phase=name, ms=self._ms(started))
        else:
            log.info("phase closed", phase=name, ms=self._ms(started))

    def _ms(self, started: float) -> float:
        return round((self._clock() - started) * 1000, 1)


@asynccontextmanager
async def open_phases(*, open_seconds: float, close_seconds: float) -> AsyncIterator[Phases]:
    """Yield `Phases`; all of them open within `open_seconds` and close within `close_seconds`."""
    async with AsyncExitStack() as stack:
        yield Phases(stack, open_seconds=open_seconds, close_seconds=close_seconds)
