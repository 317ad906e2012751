import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import structlog
from opentelemetry import trace
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from kit.tests.support.tracing import recorded_spans
from kit.tests.support.turns import other_tasks, turns, until
from slipway_kit.concurrency.batcher import Batcher
from slipway_kit.errors import DeadlineExceeded, NotFound, Overloaded, Unavailable

pytestmark = pytest.mark.anyio


def keys(batcher: str, outcome: str) -> float:
    labels = {"batcher": batcher, "outcome": outcome}
    return REGISTRY.get_sample_value("batch_keys_total", labels) or 0


class Schedule:
    """A loop's clock by hand: `end_window` calls what was scheduled and not called off."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._calls: list[Callable[[], None]] = []

    def __call__(self, seconds: float, call: Callable[[], None]) -> Any:
        self.seconds.append(seconds)
        self._calls.append(call)
        return self

    def cancel(self) -> None:
        self._calls.clear()

    @property
    def idle(self) -> bool:
        return not self._calls

    def end_window(self) -> None:
        self._calls.pop()()


class Squares:
    """A load that can be held, fail, or not know a key; it remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, ...]] = []
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.error: Exception | None = None
        self.context: list[dict[str, Any]] = []

    async def __call__(self, numbers: Sequence[int]) -> Mapping[int, int]:
        self.asked.append(tuple(numbers))
        self.context.append(structlog.contextvars.get_contextvars())
        await self.go_on.wait()
        if self.error:
            raise self.error
        return {number: number * number for number in numbers if number >= 0}


def ask(batcher: Batcher[int, int], *numbers: int) -> list[asyncio.Task[int | None]]:
    return [asyncio.create_task(batcher.get(number)) for number in numbers]


async def test_the_window_opens_at_the_first_key_and_its_keys_are_loaded_at_once() -> None:
    load, schedule = Squares(), Schedule()
    batcher = Batcher("window", load, schedule=schedule)
    async with batcher.running():
        assert schedule.idle
        asked = ask(batcher, 1, 2, 3)
        await turns()
        assert (schedule.seconds, load.asked) == ([0.01], [])
        schedule.end_window()
        assert await asyncio.gather(*asked) == [1, 4, 9]
    assert load.asked == [(1, 2, 3)]


async def test_the_loops_own_clock_ends_the_window() -> None:
    load = Squares()
    batcher = Batcher("loop-clock", load, window_seconds=0.001)
    async with batcher.running():
        assert await batcher.get(5) == 25


async def test_a_full_window_is_loaded_without_waiting() -> None:
    load, schedule = Squares(), Schedule()
    batcher = Batcher("full-window", load, max_size=2, schedule=schedule)
    async with batcher.running():
        assert await asyncio.gather(*ask(batcher, 1, 2)) == [1, 4]
        assert schedule.idle
    assert load.asked == [(1, 2)]


async def test_a_key_is_loaded_once_for_all_who_ask_in_a_window() -> None:
    load, schedule = Squares(), Schedule()
    batcher = Batcher("twice", load, schedule=schedule)
    async with batcher.running():
        asked = ask(batcher, 7, 7, 7)
        await turns()
        schedule.end_window()
        assert await asyncio.gather(*asked) == [49, 49, 49]
    assert load.asked == [(7,)]


async def test_a_key_that_is_being_loaded_is_loaded_again_for_who_asks_later() -> None:
    load = Squares()
    load.go_on.clear()
    batcher = Batcher("fresh", load, max_size=1)
    async with batcher.running():
        early = ask(batcher, 7)
        await until(lambda: load.asked == [(7,)])
        late = ask(batcher, 7)
        await until(lambda: load.asked == [(7,), (7,)])
        load.go_on.set()
        assert await asyncio.gather(*early, *late) == [49, 49]


async def test_a_key_that_the_load_does_not_know_is_none() -> None:
    batcher = Batcher("unknown", Squares(), max_size=2)
    async with batcher.running():
        assert await asyncio.gather(*ask(batcher, 3, -1)) == [9, None]
    assert (keys("unknown", "found"), keys("unknown", "missing")) == (1, 1)


async def test_each_caller_gets_its_own_error_and_the_next_batch_is_undisturbed() -> None:
    load = Squares()
    load.error = ValueError("boom")
    batcher = Batcher("failing", load, max_size=2)
    async with batcher.running():
        with capture_logs() as events:
            one, two = await asyncio.gather(*ask(batcher, 1, 2), return_exceptions=True)
        assert [str(one), str(two)] == ["boom", "boom"]
        assert isinstance(one, ValueError)
        assert one is not two
        assert [(e["event"], e["keys"], e["exc_info"]) for e in events] == [
            ("batch failed", 2, load.error)
        ]
        load.error = None
        assert await asyncio.gather(*ask(batcher, 3, 4)) == [9, 16]
    assert keys("failing", "failed") == 2


async def test_an_error_with_an_http_meaning_keeps_it() -> None:
    load = Squares()
    load.error = NotFound("There is no such shelf.")
    load.error.__cause__ = KeyError("shelf")
    batcher = Batcher("meaning", load, max_size=1)
    async with batcher.running():
        with pytest.raises(NotFound, match="no such shelf") as caught:
            await batcher.get(1)
    assert isinstance(caught.value.__cause__, KeyError)


async def test_an_error_that_cannot_be_copied_is_raised_all_the_same() -> None:
    class Odd(Exception):
        def __init__(self, one: int, two: int) -> None:
            super().__init__(f"{one} {two}")

    load = Squares()
    load.error = Odd(1, 2)
    batcher = Batcher("odd", load, max_size=1)
    async with batcher.running():
        with pytest.raises(Odd, match="1 2"):
            await batcher.get(1)


async def test_a_load_that_gives_no_mapping_fails_for_its_batch_alone() -> None:
    answers: list[Any] = [[1, 4], {3: 9}]

    async def load(_: Sequence[int]) -> Mapping[int, int]:
        answer: Mapping[int, int] = answers.pop(0)
        return answer

    batcher = Batcher("list", load, max_size=1)
    async with batcher.running():
        with pytest.raises(TypeError, match="the load of list returned list, not a mapping"):
            await batcher.get(1)
        assert await batcher.get(3) == 9


async def test_a_load_over_its_deadline_is_504() -> None:
    load = Squares()
    load.go_on.clear()
    batcher = Batcher("too-slow", load, max_size=1, load_seconds=0.01)
    async with batcher.running():
        with pytest.raises(DeadlineExceeded, match="took too long"):
            await batcher.get(1)


async def test_a_timeout_of_the_load_itself_is_passed_on_as_it_is() -> None:
    load = Squares()
    load.error = TimeoutError("its own")
    batcher = Batcher("own-timeout", load, max_size=1)
    async with batcher.running():
        with pytest.raises(TimeoutError, match="its own"):
            await batcher.get(1)


async def test_a_key_that_nobody_waits_for_any_more_is_not_loaded() -> None:
    load, schedule = Squares(), Schedule()
    batcher = Batcher("left", load, schedule=schedule)
    async with batcher.running():
        [gone, impatient, patient] = ask(batcher, 1, 2, 2)
        await turns()
        gone.cancel()
        impatient.cancel()
        await turns()
        schedule.end_window()
        assert await patient == 4
    assert load.asked == [(2,)]
    assert keys("left", "left") == 1


async def test_a_key_left_in_the_moment_of_the_load_is_not_loaded() -> None:
    load, schedule = Squares(), Schedule()
    batcher = Batcher("left-late", load, schedule=schedule)
    async with batcher.running():
        [gone, patient] = ask(batcher, 1, 2)
        await turns()
        gone.cancel()
        schedule.end_window()
        assert await patient == 4
    assert load.asked == [(2,)]
    assert keys("left-late", "left") == 1


async def test_a_caller_that_is_cancelled_during_the_load_disturbs_nobody() -> None:
    load = Squares()
    load.go_on.clear()
    batcher = Batcher("cut-caller", load, max_size=2)
    async with batcher.running():
        gone, patient = ask(batcher, 1, 2)
        await until(lambda: load.asked == [(1, 2)])
        gone.cancel()
        await turns()
        load.go_on.set()
        assert await patient == 4
        assert gone.cancelled()
        assert await asyncio.gather(*ask(batcher, 3, 4)) == [9, 16]


async def test_an_error_that_nobody_waits_for_any_more_is_logged(unseen: list[Any]) -> None:
    load = Squares()
    load.go_on.clear()
    load.error = ValueError("boom")
    batcher = Batcher("unheard", load, max_size=1)
    with capture_logs() as events:
        async with batcher.running():
            asked = ask(batcher, 1)
            await until(lambda: bool(load.asked))
            asked.pop().cancel()
            load.go_on.set()
    assert [event["event"] for event in events] == ["batch failed"]


async def test_an_error_that_meets_its_callers_cancellation_is_retrieved(unseen: list[Any]) -> None:
    async def load(_: Sequence[int]) -> Mapping[int, int]:
        # Called before the caller's task learns of the error.
        asyncio.get_running_loop().call_soon(asked[0].cancel)
        raise ValueError("boom")

    batcher = Batcher("met", load, max_size=1)
    async with batcher.running():
        asked = ask(batcher, 1)
        await asyncio.wait(asked)
        assert asked.pop().cancelled()


async def test_a_load_has_the_context_of_no_caller() -> None:
    load = Squares()
    batcher = Batcher("nobody", load, max_size=2)
    async with batcher.running():
        with structlog.contextvars.bound_contextvars(request_id="first"):
            asked = ask(batcher, 1)
        with structlog.contextvars.bound_contextvars(request_id="second"):
            asked += ask(batcher, 2)
        await asyncio.gather(*asked)
    assert load.context == [{"batcher": "nobody"}]


async def test_a_load_begins_a_trace_of_its_own_with_links_to_its_callers() -> None:
    load = Squares()
    load.error = ValueError("boom")
    batcher = Batcher("traced", load, max_size=2)
    tracer = trace.get_tracer(__name__)
    with recorded_spans() as recorded:
        async with batcher.running():
            asked = []
            for number in (1, 2):
                with tracer.start_as_current_span("request"):
                    asked += ask(batcher, number)
            await asyncio.gather(*asked, return_exceptions=True)
        await turns()
    *requests, shared = recorded.get_finished_spans()
    assert (shared.name, shared.parent, shared.status.is_ok) == ("batch traced", None, False)
    linked = [link.context for link in shared.links]
    assert linked == [request.get_span_context() for request in requests]


async def test_as_many_loads_as_allowed_run_and_the_next_batch_grows_meanwhile() -> None:
    load, schedule = Squares(), Schedule()
    load.go_on.clear()
    batcher = Batcher("busy", load, max_size=3, max_loads=1, schedule=schedule)
    async with batcher.running():
        asked = ask(batcher, 1, 2, 3)
        await until(lambda: load.asked == [(1, 2, 3)])
        asked += ask(batcher, 4)
        await turns()
        schedule.end_window()
        asked += ask(batcher, 5, 6, 7)
        await turns()
        assert load.asked == [(1, 2, 3)]
        load.go_on.set()
        assert await asyncio.gather(*asked) == [1, 4, 9, 16, 25, 36, 49]
    assert load.asked == [(1, 2, 3), (4, 5, 6), (7,)]


async def test_more_keys_than_may_wait_are_refused() -> None:
    load, schedule = Squares(), Schedule()
    batcher = Batcher("crowded", load, max_waiting=2, schedule=schedule)
    async with batcher.running():
        asked = ask(batcher, 1, 2, 2)
        await turns()
        with pytest.raises(Overloaded, match="Too many look-ups of crowded are waiting"):
            await batcher.get(3)
        schedule.end_window()
        assert await asyncio.gather(*asked) == [1, 4, 4]
    assert keys("crowded", "refused") == 1


async def test_at_exit_what_waits_is_loaded_at_once_and_nothing_new_is_taken() -> None:
    load, schedule = Squares(), Schedule()
    load.go_on.clear()
    batcher = Batcher("leaving", load, schedule=schedule)

    async def live() -> list[int | None]:
        async with batcher.running():
            asked = ask(batcher, 1, 2)
            await turns()
        return await asyncio.gather(*asked)

    living = asyncio.create_task(live())
    await until(lambda: load.asked == [(1, 2)])
    with pytest.raises(Unavailable, match="not available now"):
        await batcher.get(3)
    load.go_on.set()
    assert await living == [1, 4]
    assert schedule.idle


async def test_what_outlasts_the_grace_at_exit_is_an_error_and_leaves_no_task() -> None:
    load = Squares()
    load.go_on.clear()
    batcher = Batcher("endless", load, max_size=1, max_loads=1)
    before = other_tasks()
    with capture_logs() as events:
        async with batcher.running(grace_seconds=0.01):
            asked = ask(batcher, 1, 2)
            await until(lambda: load.asked == [(1,)])
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [str(answer) for answer in answers] == ["The load of endless was cancelled."] * 2
    assert all(isinstance(answer, Unavailable) for answer in answers)
    assert [event["event"] for event in events] == ["batches cancelled at shutdown"]
    assert other_tasks() == before


async def test_while_nobody_asks_no_task_runs() -> None:
    before = other_tasks()
    batcher = Batcher("idle", Squares(), window_seconds=0)
    async with batcher.running():
        assert await batcher.get(2) == 4
        await turns()
        assert other_tasks() == before


async def test_size_and_wait_of_a_batch_are_measured() -> None:
    now = 50.0
    schedule = Schedule()
    batcher = Batcher("measured", Squares(), schedule=schedule, clock=lambda: now)
    async with batcher.running():
        asked = ask(batcher, 1)
        await turns()
        now += 2
        asked += ask(batcher, 2, 3)
        await turns()
        now += 1
        schedule.end_window()
        await asyncio.gather(*asked)
    label = {"batcher": "measured"}
    assert REGISTRY.get_sample_value("batch_size_sum", label) == 3
    assert REGISTRY.get_sample_value("batch_size_count", label) == 1
    assert REGISTRY.get_sample_value("batch_wait_seconds_sum", label) == 3
