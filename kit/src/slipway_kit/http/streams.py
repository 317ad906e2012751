"""Streaming responses: JSON lines and server-sent events."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import ClassVar, NamedTuple, TypeVar

from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from pydantic import BaseModel
from starlette.responses import StreamingResponse
from starlette.types import Send

T = TypeVar("T")

# Proxies close an idle stream after about a minute, some after 30 s.
KEEP_ALIVE_SECONDS = 10.0
KEEP_ALIVE = KEEPALIVE_COMMENT.decode()


class Stream(StreamingResponse):
    """A streaming response that owns its generator.

    It sends the status with the first item, so that an earlier error is answered as a problem. It
    closes the generator even when the client disconnects: Starlette would leave that, and the
    transaction inside, to the garbage collector.
    """

    # More headers of the response.
    more: ClassVar[dict[str, str]] = {}

    def __init__(self, items: AsyncGenerator[str, None], status_code: int = 200) -> None:
        super().__init__(items, status_code, self.more)
        self._items = items

    async def stream_response(self, send: Send) -> None:
        """Send every item, and close the generator in any case."""
        async with aclosing(self._items) as items:
            first = await anext(items, "")
            self.body_iterator = _with_first(first, items)
            await super().stream_response(send)


class JsonLines(Stream):
    """One JSON object per line."""

    media_type = "application/x-ndjson"


class EventStream(Stream):
    """Server-sent events, which proxies must neither cache nor buffer."""

    media_type = "text/event-stream"
    more: ClassVar = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def event(data: BaseModel, *, name: str | None = None) -> str:
    """Format one server-sent event; without a `name` it is a `message`."""
    return format_sse_event(data_str=data.model_dump_json(), event=name).decode()


async def with_keep_alives(
    items: AsyncGenerator[T, None],
    *,
    seconds: float = KEEP_ALIVE_SECONDS,
    max_seconds: float | None = None,
) -> AsyncGenerator[T | None, None]:
    """Yield the items, and `None` each time that `seconds` pass without one.

    `items` run in a task of their own, at most two items ahead. They are closed with this
    generator, or after `max_seconds` however slow the reader is. Their errors are raised here, and
    `TimeoutError` after `max_seconds`.
    """
    queue: asyncio.Queue[T | _End] = asyncio.Queue(1)
    source = asyncio.create_task(_fill(items, queue, max_seconds))
    try:
        while True:
            item: T | _End | None = None
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    item = await queue.get()
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            if item is None and source.done() and queue.empty():
                raise RuntimeError("the items of a stream were cancelled from elsewhere")
            yield item
    finally:
        source.cancel()
        # Not gather: a cancelled wait would cancel the source again, amid its closing.
        await asyncio.wait({source})


class _End(NamedTuple):
    error: Exception | None


async def _fill(
    items: AsyncGenerator[T, None], queue: "asyncio.Queue[T | _End]", max_seconds: float | None
) -> None:
    error: Exception | None = None
    try:
        # Around the generator: within, the timeout would cancel the reader at a `yield`.
        async with asyncio.timeout(max_seconds), aclosing(items):
            async for item in items:
                await queue.put(item)
    except Exception as failure:  # noqa: BLE001 - raised to the reader
        error = failure
    await queue.put(_End(error))


async def _with_first(first: str, rest: AsyncGenerator[str, None]) -> AsyncGenerator[str, None]:
    yield first
    async for item in rest:
        yield item
