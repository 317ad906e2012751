"""Answers that are sent as they are made."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, suppress
from dataclasses import dataclass
from typing import TypeVar

from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from pydantic import BaseModel
from starlette.responses import StreamingResponse
from starlette.types import Send

T = TypeVar("T")

# Proxies cut a stream that is silent for about a minute, some after half of one.
KEEP_ALIVE_SECONDS = 10.0
KEEP_ALIVE = KEEPALIVE_COMMENT.decode()


class Stream(StreamingResponse):
    """A streaming response that owns its generator.

    It waits for the first item before it sends a status, so that an error until then is answered
    as one, and it closes the generator even when the client leaves halfway: Starlette would leave
    that, and the transaction inside, to the garbage collector.
    """

    def __init__(self, items: AsyncGenerator[str, None], status_code: int = 200) -> None:
        super().__init__(items, status_code)
        self._items = items

    async def stream_response(self, send: Send) -> None:
        """Send every item, then close the generator whatever happened."""
        async with aclosing(self._items) as items:
            first = await anext(items, "")
            self.body_iterator = _with_first(first, items)
            await super().stream_response(send)


class JsonLines(Stream):
    """One JSON object a line, each line a piece that a client can use at once."""

    media_type = "application/x-ndjson"


class EventStream(Stream):
    """Server-sent events, which nothing on the way is to store or to hold back."""

    media_type = "text/event-stream"

    def __init__(self, items: AsyncGenerator[str, None], status_code: int = 200) -> None:
        super().__init__(items, status_code)
        self.headers["Cache-Control"] = "no-store"
        self.headers["X-Accel-Buffering"] = "no"


def event(data: BaseModel, *, name: str | None = None) -> str:
    """Write one server-sent event; without a `name` it is a `message`."""
    return format_sse_event(data_str=data.model_dump_json(), event=name).decode()


async def with_silences(
    items: AsyncGenerator[T, None],
    *,
    seconds: float = KEEP_ALIVE_SECONDS,
    max_seconds: float | None = None,
    deadline: Callable[[float], AbstractAsyncContextManager[object]] = asyncio.timeout,
) -> AsyncGenerator[T | None, None]:
    """Yield the items, and `None` each time that `seconds` pass without one.

    `items` run in one task of their own, which may be two items ahead; it ends and they are closed
    with this generator, and after `max_seconds` however slow the reader is. What they raise is
    raised here, or `TimeoutError`.
    """
    made: asyncio.Queue[T | _End] = asyncio.Queue(1)
    source = asyncio.create_task(_make(items, made, max_seconds))
    try:
        while True:
            item: T | _End | None = None
            with suppress(TimeoutError):
                async with deadline(seconds):
                    item = await made.get()
            if isinstance(item, _End):
                item.tell()
                return
            if item is None and source.done() and made.empty():
                raise RuntimeError("the items of a stream were cancelled by somebody else")
            yield item
    finally:
        source.cancel()
        # Not gather: it would cancel once more when this wait is cancelled, amid the closing.
        await asyncio.wait({source})


@dataclass(frozen=True, slots=True)
class _End:
    """Follows the last item."""

    error: Exception | None

    def tell(self) -> None:
        if self.error is not None:
            raise self.error


async def _make(
    items: AsyncGenerator[T, None], made: "asyncio.Queue[T | _End]", max_seconds: float | None
) -> None:
    error: Exception | None = None
    try:
        # Around the generator: within, it would cancel whoever has the turn at a `yield`.
        async with asyncio.timeout(max_seconds), aclosing(items):
            async for item in items:
                await made.put(item)
    except Exception as failure:  # noqa: BLE001 - the one who reads is told
        error = failure
    await made.put(_End(error))


async def _with_first(first: str, rest: AsyncGenerator[str, None]) -> AsyncGenerator[str, None]:
    yield first
    async for item in rest:
        yield item
