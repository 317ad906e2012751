"""Waiting for what happens elsewhere, in tests."""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(ask: Callable[[], T], *, seconds: float = 10, what: str = "") -> T:
    """Return the first truthy answer; fail when there is none within `seconds`."""
    give_up = time.monotonic() + seconds
    while True:
        answer = ask()
        if answer:
            return answer
        assert time.monotonic() < give_up, f"not within {seconds} s: {what or ask}"
        time.sleep(0.02)


async def soon(ask: Callable[[], T], *, seconds: float = 10, what: str = "") -> T:
    """Do the same on an event loop, which others have turns of meanwhile."""
    give_up = time.monotonic() + seconds
    while True:
        answer = ask()
        if answer:
            return answer
        assert time.monotonic() < give_up, f"not within {seconds} s: {what or ask}"
        await asyncio.sleep(0.001)
