"""Connections are handed out in order, and none is lost."""

import asyncio
from typing import Any

import pytest
from sqlalchemy.util import greenlet_spawn
from sqlalchemy.util.queue import Empty

from kit.tests.support.turns import turns
from slipway_kit.db.fair_queue import FairQueue

pytestmark = pytest.mark.anyio


async def get(queue: FairQueue, timeout: float = 30) -> Any:  # noqa: ASYNC109 (the queue's)
    return await greenlet_spawn(queue.get, True, timeout)


async def test_whoever_waits_is_served_before_whoever_comes_later() -> None:
    queue, found = FairQueue(2), list[str]()

    async def wait(name: str) -> None:
        found.append(f"{name} {await get(queue)}")

    waiters = [asyncio.create_task(wait(name)) for name in "ab"]
    await turns()
    for item in ("first", "second"):
        queue.put(item, block=False)  # type: ignore[arg-type]  # stands for a connection
        # It is promised to the one that waits, who has not run yet.
        with pytest.raises(Empty):
            queue.get(block=False)
    await asyncio.gather(*waiters)
    assert found == ["a first", "b second"]


@pytest.mark.parametrize("handed_over", [False, True])
async def test_a_caller_that_leaves_takes_no_connection_with_it(*, handed_over: bool) -> None:
    queue = FairQueue(1)
    leaves, stays = (asyncio.create_task(get(queue)) for _ in range(2))
    await turns()
    if handed_over:
        queue.put_nowait("connection")  # type: ignore[arg-type]  # the same
    leaves.cancel()
    await turns()
    if not handed_over:
        queue.put_nowait("connection")  # type: ignore[arg-type]  # the same
    assert await stays == "connection"
    assert leaves.cancelled()
    assert queue.empty()


async def test_a_wait_ends_with_its_time() -> None:
    queue = FairQueue(1)
    with pytest.raises(Empty):
        await get(queue, timeout=0.01)
    queue.put_nowait("connection")  # type: ignore[arg-type]  # the same
    assert await get(queue) == "connection"
