import asyncio

import pytest

from slipway_kit.testing import eventually, soon

pytestmark = pytest.mark.anyio


async def test_soon_waits_until_another_task_has_done_it() -> None:
    done: list[int] = []
    asyncio.get_running_loop().call_later(0.01, done.append, 1)
    assert await soon(lambda: done) == [1]


async def test_what_does_not_happen_in_time_fails_with_its_name() -> None:
    with pytest.raises(AssertionError, match=r"not within 0.01 s: rain"):
        await soon(lambda: False, seconds=0.01, what="rain")


def test_eventually_does_the_same_without_a_loop() -> None:
    answers = iter([0, 0, 7])
    assert eventually(lambda: next(answers)) == 7
    with pytest.raises(AssertionError, match=r"not within 0.01 s: rain"):
        eventually(lambda: False, seconds=0.01, what="rain")
