from collections.abc import AsyncGenerator

import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message, Scope

from app.kit.streams import JsonLines, Stream

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


async def test_a_client_that_leaves_halfway_closes_the_generator_at_once() -> None:
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
