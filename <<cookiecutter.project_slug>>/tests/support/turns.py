"""Turns of the event loop: a test waits for what happens, never for time."""

import asyncio
from collections.abc import Callable


async def until(true: Callable[[], bool]) -> None:
    """Give the loop turns until something is so; the test's own timeout ends a wait in vain."""
    while not true():  # noqa: ASYNC110 (what is waited for sets no event)
        await asyncio.sleep(0)


async def turns(count: int = 20) -> None:
    """Give whatever can still happen the time to happen."""
    for _ in range(count):
        await asyncio.sleep(0)


def other_tasks() -> set[asyncio.Task[object]]:
    """Return the tasks that are not the test itself."""
    return asyncio.all_tasks() - {asyncio.current_task()}
