"""One clock for all deadlines."""

import asyncio
from collections.abc import Callable

import pytest
import uvloop

from slipway_kit import clock

# What an event loop reads when its turn begins, in whole milliseconds, is a little late.
TURN_SECONDS = 5.0


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_the_loops_have_the_time_of_the_clock(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def difference() -> float:
        return clock.now() - asyncio.get_running_loop().time()

    loop = new_loop()
    try:
        assert -0.01 < loop.run_until_complete(difference()) < TURN_SECONDS
    finally:
        loop.close()
