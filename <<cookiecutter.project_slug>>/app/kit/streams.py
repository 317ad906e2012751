"""Answers that are sent as they are made."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.responses import StreamingResponse
from starlette.types import Send


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


async def _with_first(first: str, rest: AsyncGenerator[str, None]) -> AsyncGenerator[str, None]:
    yield first
    async for item in rest:
        yield item
