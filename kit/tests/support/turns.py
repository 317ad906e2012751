"""Turns of the event loop: a test waits for what happens, never for time."""

import asyncio
from collections.abc import Callable


async def until(true: Callable[[], object], *, within: int = 500_000) -> None:
    """Give the loop turns until something is so; so many in vain, some seconds, are an error."""
    for _ in range(within):
        if true():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came true")


async def turns(count: int = 20) -> None:
    """Give whatever can still happen the time to happen."""
    for _ in range(count):
        await asyncio.sleep(0)


def other_tasks() -> set[asyncio.Task[object]]:
    """Return the tasks that are not the test itself."""
    return asyncio.all_tasks() - {asyncio.current_task()}
