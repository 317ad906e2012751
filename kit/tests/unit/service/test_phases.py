import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
from structlog.testing import capture_logs

from slipway_kit.service.lifespan import PhaseOverrunError, Phases

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def part(
    name: str, said: list[str], *, opens: float = 0, closes: float = 0
) -> AsyncIterator[str]:
    await asyncio.sleep(opens)
    said.append(f"{name} opened")
    yield name
    await asyncio.sleep(closes)
    said.append(f"{name} closed")


@asynccontextmanager
async def broken_part() -> AsyncIterator[None]:
    yield
    raise OSError("it does not close")


async def test_phases_open_in_order_and_close_in_reverse_and_each_is_logged_with_its_time() -> None:
    said: list[str] = []
    with capture_logs() as logged:
        async with Phases(open_seconds=5, close_seconds=5) as phases:
            assert await phases.open("one", part("one", said)) == "one"
            await phases.open("two", part("two", said))
    assert said == ["one opened", "two opened", "two closed", "one closed"]
    assert [(e["event"], e["phase"]) for e in logged] == [
        ("phase opened", "one"),
        ("phase opened", "two"),
        ("phase closed", "two"),
        ("phase closed", "one"),
    ]
    assert all(e["ms"] >= 0 for e in logged)


async def test_a_phase_that_opens_too_slowly_is_named_and_closes_what_is_open() -> None:
    said: list[str] = []
    now = 100.0
    async with Phases(open_seconds=60, close_seconds=5, clock=lambda: now) as phases:
        await phases.open("quick", part("quick", said))
        now += 59.99
        with pytest.raises(PhaseOverrunError, match=r"phase slow took longer than 0\.01 s"):
            await phases.open("slow", part("slow", said, opens=60))
    assert said == ["quick opened", "quick closed"]


async def test_the_phases_share_the_deadline_of_the_start() -> None:
    now = 100.0
    async with Phases(open_seconds=60, close_seconds=5, clock=lambda: now) as phases:
        for name in ("one", "two"):
            await phases.open(name, part(name, []))
            now += 29.99
        with pytest.raises(PhaseOverrunError, match=r"phase three took longer than 0\.02 s"):
            await phases.open("three", part("three", [], opens=60))


async def test_a_timeout_of_the_phase_itself_is_passed_on_as_it_is() -> None:
    class Impatient(AbstractAsyncContextManager[None]):
        async def __aenter__(self) -> None:
            raise TimeoutError("a look-up of its own")

        async def __aexit__(self, *error: object) -> None:
            """Never entered, never left."""

    async with Phases(open_seconds=5, close_seconds=5) as phases:
        with pytest.raises(TimeoutError, match="of its own"):
            await phases.open("impatient", Impatient())


async def test_a_phase_that_fails_to_close_does_not_keep_the_others_open() -> None:
    said: list[str] = []
    with capture_logs() as logged:
        async with Phases(open_seconds=5, close_seconds=5) as phases:
            await phases.open("one", part("one", said))
            await phases.open("broken", broken_part())
    assert said[-1] == "one closed"
    assert ("phase failed to close", "broken") in [(e["event"], e["phase"]) for e in logged]


async def test_closing_has_one_deadline_for_all() -> None:
    said: list[str] = []
    with capture_logs() as logged:
        async with Phases(open_seconds=5, close_seconds=0.02) as phases:
            await phases.open("one", part("one", said, closes=60))
            await phases.open("two", part("two", said, closes=60))
    assert [e["event"] for e in logged[2:]] == ["phase failed to close"] * 2
