import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest
from pydantic import BaseModel
from starlette.requests import ClientDisconnect
from starlette.types import Message, Scope

from slipway_kit.http.streams import (
    KEEP_ALIVE,
    EventStream,
    JsonLines,
    Stream,
    event,
    with_keep_alives,
)

pytestmark = pytest.mark.anyio

SCOPE: Scope = {"type": "http", "asgi": {"spec_version": "2.4"}}


async def receive() -> Message:
    return {"type": "http.disconnect"}


def numbers(closed: list[bool]) -> AsyncGenerator[str, None]:
    async def items() -> AsyncGenerator[str, None]:
        try:
            for number in range(3):
                yield str(number)
        finally:
            closed.append(True)

    return items()


async def test_a_stream_sends_every_item_in_order() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await JsonLines(numbers([]))(SCOPE, receive, send)
    assert (b"content-type", b"application/x-ndjson") in sent[0]["headers"]
    assert b"".join(message["body"] for message in sent[1:]) == b"012"
    assert sent[-1]["more_body"] is False


async def test_a_disconnect_closes_the_generator_at_once() -> None:
    closed: list[bool] = []

    async def send(message: Message) -> None:
        if message.get("body") == b"1":
            raise OSError

    items = numbers(closed)
    with pytest.raises(ClientDisconnect):
        await Stream(items)(SCOPE, receive, send)
    assert closed == [True]


async def test_an_error_before_the_first_item_comes_before_any_status() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def broken() -> AsyncGenerator[str, None]:
        yield {"known": ""}["unknown"]

    with pytest.raises(LookupError):
        await Stream(broken())(SCOPE, receive, send)
    assert sent == []


async def test_an_empty_stream_is_an_empty_body() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def nothing() -> AsyncGenerator[str, None]:
        for item in list[str]():
            yield item

    await Stream(nothing())(SCOPE, receive, send)
    assert b"".join(message["body"] for message in sent[1:]) == b""


async def test_server_sent_events_are_neither_cached_nor_buffered() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await EventStream(numbers([]))(SCOPE, receive, send)
    headers = dict(sent[0]["headers"])
    assert headers[b"content-type"].startswith(b"text/event-stream")
    assert headers[b"cache-control"] == b"no-store"
    assert headers[b"x-accel-buffering"] == b"no"


class Note(BaseModel):
    text: str


def test_an_event_is_one_line_of_json_whatever_its_text() -> None:
    assert event(Note(text="a\nb")) == 'data: {"text":"a\\nb"}\n\n'
    assert event(Note(text="a"), name="done") == 'event: done\ndata: {"text":"a"}\n\n'
    assert KEEP_ALIVE.startswith(":")
    assert KEEP_ALIVE.endswith("\n\n")


class Thinker:
    """Yields what the test puts in, when it does."""

    def __init__(self) -> None:
        self.thoughts: asyncio.Queue[str | Exception | None] = asyncio.Queue()
        self.closed_by: asyncio.Task[object] | None = None

    async def thinks(self) -> AsyncGenerator[str, None]:
        began_in = asyncio.current_task()
        try:
            while thought := await self.thoughts.get():
                if isinstance(thought, Exception):
                    raise thought
                yield thought
        finally:
            # The same task from first to last: what opens a timeout in it can close it.
            assert asyncio.current_task() is began_in
            self.closed_by = began_in


async def test_each_silence_yields_none_and_loses_no_item() -> None:
    thinker = Thinker()
    items = with_keep_alives(thinker.thinks(), seconds=0)
    assert [await anext(items) for _ in range(3)] == [None, None, None]
    for thought in ("a", "b", "c", None):
        thinker.thoughts.put_nowait(thought)
    assert [item async for item in items if item] == ["a", "b", "c"]
    assert thinker.closed_by


async def test_without_silences_the_items_alone_are_yielded() -> None:
    closed: list[bool] = []
    assert [item async for item in with_keep_alives(numbers(closed))] == ["0", "1", "2"]
    assert closed == [True]


async def test_an_error_of_the_items_comes_after_those_before_it() -> None:
    thinker = Thinker()
    for thought in ("a", LookupError("gone")):
        thinker.thoughts.put_nowait(thought)
    items = with_keep_alives(thinker.thinks())
    assert await anext(items) == "a"
    with pytest.raises(LookupError, match="gone"):
        await anext(items)
    assert thinker.closed_by


@pytest.mark.parametrize("waiting", [0, 1, 5], ids=["thinking", "one ready", "more than fit"])
async def test_closing_the_stream_closes_the_items_and_their_task(waiting: int) -> None:
    tasks = asyncio.all_tasks()
    thinker = Thinker()
    for _ in range(1 + waiting):
        thinker.thoughts.put_nowait("a")
    async with aclosing(with_keep_alives(thinker.thinks())) as items:
        assert await anext(items) == "a"
        for _ in range(10):
            await asyncio.sleep(0)
    assert thinker.closed_by
    assert asyncio.all_tasks() == tasks


async def test_max_seconds_hold_also_for_a_stalled_reader() -> None:
    thinker = Thinker()
    for _ in range(5):
        thinker.thoughts.put_nowait("a")
    items = with_keep_alives(thinker.thinks(), max_seconds=0)
    async with asyncio.timeout(5):
        assert await anext(items) == "a"
        while not thinker.closed_by:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            assert not [item async for item in items if item != "a"]


async def test_items_that_are_cancelled_from_elsewhere_end_the_stream() -> None:
    async def cancelled() -> AsyncGenerator[str, None]:
        yield "a"
        raise asyncio.CancelledError

    items = with_keep_alives(cancelled(), seconds=0)
    with pytest.raises(RuntimeError, match="cancelled from elsewhere"):
        assert not [item async for item in items]
