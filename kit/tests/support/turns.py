"""Turns of the event loop: a test waits for what happens, never for time."""

import asyncio
import time
from collections.abc import Callable


async def until(true: Callable[[], object], *, seconds: float = 30) -> None:
    """Give the loop turns until something is so; so many seconds in vain are an error."""
    give_up = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < give_up, f"it did not come true within {seconds} s"
        await asyncio.sleep(0)


async def turns(count: int = 20) -> None:
    """Give whatever can still happen the time to happen."""
    for _ in range(count):
        await asyncio.sleep(0)


def other_tasks() -> set[asyncio.Task[object]]:
    """Return the tasks that are not the test itself."""
    return asyncio.all_tasks() - {asyncio.current_task()}
