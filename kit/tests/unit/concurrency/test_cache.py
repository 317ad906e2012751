import asyncio
from typing import Any

import pytest
import structlog
from cashews.backends.memory import Memory
from opentelemetry import trace
from prometheus_client import REGISTRY
from pydantic import BaseModel
from structlog.testing import capture_logs

from kit.tests.support.tracing import recorded_spans
from kit.tests.support.turns import other_tasks, turns, until
from slipway_kit.concurrency.cache import Cache
from slipway_kit.errors import DeadlineExceeded, NotFound, Unavailable

pytestmark = pytest.mark.anyio


def requests(cache: str, result: str) -> float:
    labels = {"cache": cache, "result": result}
    return REGISTRY.get_sample_value("cache_requests_total", labels) or 0


def sample(name: str, cache: str) -> float | None:
    return REGISTRY.get_sample_value(name, {"cache": cache})


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Counting:
    """A computation that can be held or fail, and gives one more each time."""

    def __init__(self) -> None:
        self.calls = 0
        self.cancelled = 0
        self.error: BaseException | None = None
        self.context: dict[str, Any] = {}
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def __call__(self) -> int:
        self.calls += 1
        number = self.calls
        self.context = structlog.contextvars.get_contextvars()
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error:
            raise self.error
        return number


def numbers(name: str, *, clock: Clock | None = None, **options: Any) -> Cache[int]:
    options = {"ttl_seconds": 60, "max_entries": 10, **options}
    return Cache(name, int, clock=clock or Clock(), **options)


async def test_a_value_is_computed_once_until_it_is_too_old() -> None:
    clock, compute = Clock(), Counting()
    cache = numbers("ttl", clock=clock, ttl_seconds=30)
    assert await cache.get("key", compute) == 1
    clock.now += 29.9
    assert await cache.get("key", compute) == 1
    clock.now += 0.1
    assert await cache.get("key", compute) == 2
    assert (requests("ttl", "hit"), requests("ttl", "miss")) == (1, 2)


async def test_keys_have_values_of_their_own_and_one_can_be_deleted() -> None:
    cache, compute = numbers("keys"), Counting()
    assert await cache.get("a", compute) == 1
    assert await cache.get("b", compute) == 2
    await cache.delete("a")
    assert await cache.get("b", compute) == 2
    assert await cache.get("a", compute) == 3


async def test_nothing_is_an_answer_too() -> None:
    calls = []

    async def compute() -> int | None:
        calls.append(1)
        return None

    cache: Cache[int | None] = Cache("none", int | None, ttl_seconds=60, max_entries=1)  # type: ignore[arg-type]
    assert await cache.get("key", compute) is None
    assert await cache.get("key", compute) is None
    assert len(calls) == 1


async def test_the_store_is_bounded_and_drops_what_was_unused_longest() -> None:
    cache, compute = numbers("bounded", max_entries=2), Counting()
    for key in ("a", "b", "a", "c"):
        await cache.get(key, compute)
    assert sample("cache_entries", "bounded") == 2
    assert sample("cache_evictions_total", "bounded") == 1
    assert await cache.get("a", compute) == 1
    assert await cache.get("b", compute) == 4


async def test_an_entry_that_was_too_old_is_no_eviction() -> None:
    clock, compute = Clock(), Counting()
    cache = numbers("aged", clock=clock, max_entries=1)
    for _ in range(3):
        await cache.get("key", compute)
        clock.now += 100
    assert compute.calls == 3
    assert not sample("cache_evictions_total", "aged")


async def test_all_who_ask_meanwhile_wait_for_one_computation() -> None:
    cache, compute = numbers("flight"), Counting()
    compute.go_on.clear()
    asked = [asyncio.create_task(cache.get("key", compute)) for _ in range(5)]
    await until(lambda: compute.calls == 1)
    await turns()
    compute.go_on.set()
    assert await asyncio.gather(*asked) == [1] * 5
    assert compute.calls == 1
    assert (requests("flight", "miss"), requests("flight", "shared")) == (1, 4)


async def test_everybody_gets_a_value_of_their_own() -> None:
    class Shelf(BaseModel):
        games: list[str]

    shelves = Cache("own", Shelf, ttl_seconds=60, max_entries=1)

    async def compute() -> Shelf:
        await asyncio.sleep(0)
        return Shelf(games=["Go"])

    one, two = await asyncio.gather(shelves.get("key", compute), shelves.get("key", compute))
    one.games.append("Chess")
    assert two == Shelf(games=["Go"])
    assert await shelves.get("key", compute) == two


async def test_an_error_is_never_kept_and_each_caller_gets_its_own() -> None:
    cache, compute = numbers("failing"), Counting()
    compute.error = NotFound("There is no such shelf.")
    asked = [cache.get("key", compute), cache.get("key", compute)]
    one, two = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(one, NotFound)
    assert isinstance(two, NotFound)
    assert one is not two
    compute.error = None
    assert await cache.get("key", compute) == 2
    assert (requests("failing", "error"), requests("failing", "miss")) == (2, 1)


@pytest.mark.parametrize("leaving", [0, 1], ids=["who-asked-first", "who-joined"])
async def test_a_caller_that_leaves_does_not_end_the_computation_for_others(leaving: int) -> None:
    cache, compute = numbers("leaving"), Counting()
    compute.go_on.clear()
    asked = [asyncio.create_task(cache.get("key", compute)) for _ in range(2)]
    await until(lambda: compute.calls == 1)
    asked[leaving].cancel()
    await turns()
    compute.go_on.set()
    assert await asked[1 - leaving] == 1
    assert asked[leaving].cancelled()
    assert (compute.calls, compute.cancelled) == (1, 0)


async def test_a_computation_that_everybody_left_ends_and_the_next_one_begins_anew() -> None:
    cache, compute = numbers("deserted"), Counting()
    compute.go_on.clear()
    before = other_tasks()
    asked = [asyncio.create_task(cache.get("key", compute)) for _ in range(2)]
    await until(lambda: compute.calls == 1)
    for each in asked:
        each.cancel()
    await asyncio.wait(asked)
    compute.go_on.set()
    assert await cache.get("key", compute) == 2
    assert compute.cancelled == 1
    assert other_tasks() == before


async def test_a_computation_that_fails_after_everybody_left_is_logged(unseen: list[Any]) -> None:
    async def compute() -> int:
        try:
            return await asyncio.Event().wait()
        finally:
            raise ValueError("while it leaves")

    cache = numbers("unheard")
    asked = asyncio.create_task(cache.get("key", compute))
    await turns()
    asked.cancel()
    with capture_logs() as events:
        await turns()
    assert [event["event"] for event in events] == ["cache computation failed without a waiter"]


async def test_a_computation_that_is_cancelled_is_an_error_and_no_cancellation() -> None:
    cache, compute = numbers("cut"), Counting()
    compute.error = asyncio.CancelledError()
    with pytest.raises(Unavailable, match="was cancelled"):
        await cache.get("key", compute)


async def test_a_computation_over_its_deadline_is_504() -> None:
    cache, compute = numbers("too-slow", compute_seconds=0.01), Counting()
    compute.go_on.clear()
    with pytest.raises(DeadlineExceeded, match="took too long"):
        await cache.get("key", compute)
    compute.go_on.set()
    compute.error = TimeoutError("its own")
    with pytest.raises(TimeoutError, match="its own"):
        await cache.get("key", compute)


async def test_a_computation_has_the_context_of_no_caller() -> None:
    cache, compute = numbers("nobody"), Counting()
    with structlog.contextvars.bound_contextvars(request_id="first"):
        await cache.get("key", compute)
    assert compute.context == {"cache": "nobody"}


async def test_a_computation_begins_a_trace_of_its_own_with_a_link_to_its_caller() -> None:
    cache, compute = numbers("traced"), Counting()
    with recorded_spans() as recorded:
        with trace.get_tracer(__name__).start_as_current_span("request"):
            await cache.get("key", compute)
        await turns()
    shared, request = recorded.get_finished_spans()
    assert (shared.name, shared.parent) == ("cache traced", None)
    assert [link.context for link in shared.links] == [request.get_span_context()]


async def test_what_is_deleted_while_it_is_computed_is_not_kept() -> None:
    cache, compute = numbers("outdated"), Counting()
    compute.go_on.clear()
    asked = asyncio.create_task(cache.get("key", compute))
    await until(lambda: compute.calls == 1)
    await cache.delete("key")
    compute.go_on.set()
    assert await asked == 1
    assert await cache.get("key", compute) == 2


async def test_who_asks_after_a_deletion_waits_for_no_older_computation() -> None:
    cache, compute = numbers("renewed"), Counting()
    compute.go_on.clear()
    early = asyncio.create_task(cache.get("key", compute))
    await until(lambda: compute.calls == 1)
    await cache.delete("key")
    late = asyncio.create_task(cache.get("key", compute))
    await until(lambda: compute.calls == 2)
    compute.go_on.set()
    assert (await early, await late) == (1, 2)
    assert await cache.get("key", compute) == 2


@pytest.mark.parametrize(
    "poison",
    [
        "a string",
        b"\x80",
        (2000.0, b'"seven"'),
        (2000.0, b"{"),
        (2000.0, 7),
        ("later", b"7"),
        (2000.0, b"7", 7),
    ],
)
async def test_a_poisoned_entry_is_a_miss_that_is_logged_and_removed(poison: object) -> None:
    store = Memory(size=10, check_interval=0)
    cache, compute = numbers("poisoned", store=store), Counting()
    await store.set("key", poison)
    compute.error = NotFound("Not now.")
    with capture_logs() as events:
        for _ in range(2):
            with pytest.raises(NotFound):
                await cache.get("key", compute)
    assert [(event["event"], event["cache"]) for event in events] == [
        ("cache entry is invalid", "poisoned")
    ]
    assert await store.get_keys_count() == 0
    compute.error = None
    assert await cache.get("key", compute) == 3


async def test_a_value_of_another_type_is_a_bug_and_is_not_kept() -> None:
    async def compute() -> Any:
        return object()

    store = Memory(size=10, check_interval=0)
    cache = numbers("wrong", store=store)
    with pytest.raises(ValueError, match="serializ"):
        await cache.get("key", compute)
    assert await store.get_keys_count() == 0


class Broken(Memory):
    """A store that fails while `works` is false."""

    works = False

    def _ask(self) -> None:
        if not self.works:
            raise ConnectionError("the store is away")

    async def get(self, *args: Any, **options: Any) -> Any:
        self._ask()
        return await super().get(*args, **options)

    async def set(self, *args: Any, **options: Any) -> Any:
        self._ask()
        return await super().set(*args, **options)

    async def delete(self, *args: Any, **options: Any) -> Any:
        self._ask()
        return await super().delete(*args, **options)


async def test_without_its_store_the_cache_computes_and_says_so_once() -> None:
    store, compute = Broken(size=10, check_interval=0), Counting()
    cache = numbers("storeless", store=store)
    with capture_logs() as events:
        assert await cache.get("key", compute) == 1
        assert await cache.get("key", compute) == 2
        await cache.delete("key")
        store.works = True
        assert await cache.get("key", compute) == 3
        assert await cache.get("key", compute) == 3
    assert [event["event"] for event in events] == ["cache store failed; every value is computed"]


async def test_the_cache_starts_no_task_of_its_own() -> None:
    before = other_tasks()
    cache, compute = numbers("quiet"), Counting()
    await cache.get("key", compute)
    await turns()
    assert other_tasks() == before


@pytest.mark.parametrize("option", ["ttl_seconds", "max_entries"])
async def test_a_cache_without_a_bound_is_refused(option: str) -> None:
    options: dict[str, Any] = {option: 0}
    with pytest.raises(ValueError, match="needs ttl_seconds above 0"):
        numbers("unbounded", **options)
