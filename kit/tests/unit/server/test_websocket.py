"""The WebSocket protocol, fed with floods."""

from collections.abc import AsyncIterator

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.server import ServerState

from kit.tests.support.turns import turns, until
from kit.tests.unit.server.test_protocol import UPGRADE, Wire
from slipway_kit.config.server import ServerSettings
from slipway_kit.http.refusals import Refusals
from slipway_kit.server import websocket
from slipway_kit.server.websocket import BoundedWebSocket

pytestmark = pytest.mark.anyio

PING, PONG = b"\x89\x80\0\0\0\0", b"\x8a\x80\0\0\0\0"
TEXT, MORE, END = b"\x01\x81\0\0\0\0a", b"\x00\x80\0\0\0\0", b"\x80\x80\0\0\0\0"
WHOLE = b"\x81\x81\0\0\0\0a"
ANSWER = b"\x8a\0"


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] != "websocket.disconnect":
        if "text" in message:
            await send({"type": "websocket.send", "text": message["text"]})


def protocol_of(app: ASGIApp) -> BoundedWebSocket:
    return BoundedWebSocket(
        config=Config(app, lifespan="off", ws_per_message_deflate=False),
        server_state=ServerState(),
        app_state={},
        refusals=Refusals(ServerSettings()),
    )


@pytest.fixture
async def talk() -> AsyncIterator[BoundedWebSocket]:
    made = protocol_of(app)
    made.connection_made(Wire())
    made.data_received(UPGRADE % b"")
    await turns()
    wire(made).sent = b""
    yield made
    made.connection_lost(None)
    await turns()


def wire(talk: BoundedWebSocket) -> Wire:
    assert isinstance(talk.transport, Wire)
    return talk.transport


@pytest.mark.parametrize("flood", [PING, PONG])
async def test_a_flood_of_control_frames_is_closed(
    talk: BoundedWebSocket, monkeypatch: pytest.MonkeyPatch, flood: bytes
) -> None:
    seconds = 1.0
    monkeypatch.setattr(BoundedWebSocket, "clock", lambda _: seconds)
    for _ in range(3):
        talk.data_received(flood * websocket.MAX_CONTROL_FRAMES)
        assert not wire(talk).closed
        seconds += 1
    talk.data_received(flood * (websocket.MAX_CONTROL_FRAMES + 1))
    assert wire(talk).closed
    assert b"\x03\xf0too many" in wire(talk).sent


async def test_an_ipv4_address_within_an_ipv6_one_is_named_as_such() -> None:
    made = protocol_of(app)
    ends = {"peername": ("::ffff:192.0.2.7", 1), "sockname": ("::ffff:192.0.2.1", 8000)}
    made.connection_made(Wire(ends))
    assert (made.client, made.server) == (("192.0.2.7", 1), ("192.0.2.1", 8000))


async def test_a_ping_is_answered_unless_its_client_reads_nothing(talk: BoundedWebSocket) -> None:
    talk.data_received(PING)
    talk.pause_writing()
    talk.data_received(PING)
    assert wire(talk).sent == ANSWER
    talk.resume_writing()
    talk.data_received(PING)
    assert wire(talk).sent == ANSWER * 2


async def test_a_message_has_a_largest_number_of_fragments(talk: BoundedWebSocket) -> None:
    for _ in range(2):
        talk.data_received(TEXT + MORE * (websocket.MAX_FRAGMENTS - 2) + END)
        await turns()
    assert wire(talk).sent.count(b"\x81\x01a") == 2
    talk.data_received(TEXT + MORE * websocket.MAX_FRAGMENTS)
    assert wire(talk).closed
    assert talk.frames == []


async def test_messages_are_parsed_as_the_app_takes_them(talk: BoundedWebSocket) -> None:
    count = 5000
    talk.data_received(WHOLE * count + PING)
    assert 0 < talk.queue.qsize() < 1000
    assert not wire(talk).reading
    assert ANSWER not in wire(talk).sent
    await until(lambda: wire(talk).reading)
    await turns()
    echoes = wire(talk).sent.replace(ANSWER, b"", 1)
    assert echoes == b"\x81\x01a" * count


async def test_a_message_may_be_longer_than_what_is_parsed_at_once(talk: BoundedWebSocket) -> None:
    large = b"\x82\xff" + (300_000).to_bytes(8) + bytes(4) + b"a" * 300_000
    for start in range(0, len(large), 10_000):
        talk.data_received(large[start : start + 10_000])
    assert talk.queue.qsize() == 1
    talk.data_received(WHOLE)
    await until(lambda: b"\x81\x01a" in wire(talk).sent)
