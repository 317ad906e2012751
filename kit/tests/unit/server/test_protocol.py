"""The HTTP protocol with admission, fed with the bytes of a connection."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, cast

import pytest
from starlette.types import Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from kit.tests.support.turns import turns, until
from slipway_kit.config.server import ServerSettings
from slipway_kit.http.probes import Drain
from slipway_kit.http.refusals import Refusals
from slipway_kit.overload.admission import Admission
from slipway_kit.overload.queue_limit import PoolState, QueueLimit
from slipway_kit.overload.route_shedding import MIN_IN_A_ROW, RouteShedding
from slipway_kit.server import protocol
from slipway_kit.server.protocol import AdmittingProtocol

pytestmark = pytest.mark.anyio

GET = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"


class FixedAdmission(Admission):
    """Admits, queues or refuses every request, as the test sets."""

    def __init__(self) -> None:
        super().__init__()
        self.open = self.has_room = False
        self.queued: list[Callable[[], None]] = []

    def start_now(self) -> bool:
        return self.open

    def enqueue(self, start: Callable[[], None]) -> bool:
        if self.has_room:
            self.queued.append(start)
        return self.has_room


class Wire(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self, ends: dict[str, tuple[str, int]] | None = None) -> None:
        super().__init__(ends)
        self.sent, self.closed, self.reading = b"", False, True

    def write(self, data: Any) -> None:
        assert not self.closed
        self.sent += data

    def close(self) -> None:
        self.closed = True

    abort = close

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Ignore it: what a WebSocket's protocol answers is enough."""

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        """Note it; the test decides what arrives."""
        self.reading = False

    def resume_reading(self) -> None:
        """Note it as well."""
        self.reading = True

    @property
    def answers(self) -> list[tuple[int, dict[str, str], bytes]]:
        """Parse the answers."""
        found, rest = [], self.sent
        while rest:
            head, _, rest = rest.partition(b"\r\n\r\n")
            first, *lines = head.decode().split("\r\n")
            headers = dict(line.split(": ", 1) for line in lines)
            length = int(headers["content-length"])
            found.append((int(first.split()[1]), headers, rest[:length]))
            rest = rest[length:]
        return found


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    body = scope["path"].encode()
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Talk:
    """One connection to the protocol, with its own admission."""

    def __init__(self) -> None:
        self.admission, self.wire, self.drain = FixedAdmission(), Wire(), Drain()
        self.shedding = RouteShedding()
        self.state = ServerState()
        self.protocol = AdmittingProtocol(
            config=Config(app, http="httptools", lifespan="off"),
            server_state=self.state,
            app_state={},
            admission=self.admission,
            refusals=Refusals(ServerSettings()),
            drain=self.drain,
            shedding=self.shedding,
            always=frozenset({"/livez"}),
        )
        self.protocol.connection_made(self.wire)

    async def say(self, data: bytes) -> list[int]:
        """Send bytes and return the statuses of all answers so far."""
        self.protocol.data_received(data)
        await turns()
        return [status for status, _, _ in self.wire.answers]


@pytest.fixture
async def talk() -> AsyncIterator[Talk]:
    talk = Talk()
    yield talk
    talk.protocol.connection_lost(None)


async def test_an_admitted_request_is_served(talk: Talk) -> None:
    talk.admission.open = True
    assert await talk.say(GET) == [200]


async def test_a_refused_request_gets_a_problem_and_the_connection_stays(talk: Talk) -> None:
    assert await talk.say(GET) == [503]
    _, headers, body = talk.wire.answers[0]
    assert headers["content-type"] == "application/problem+json"
    assert headers["retry-after"] == "1"
    assert headers["x-request-id"] == json.loads(body)["request_id"]
    assert not talk.wire.closed
    talk.admission.open = True
    assert await talk.say(GET) == [503, 200]
    assert talk.state.total_requests == 2
    assert not talk.state.tasks


async def test_probes_are_served_while_all_else_is_refused(talk: Talk) -> None:
    assert await talk.say(GET.replace(b"/x", b"/livez?a=b") + GET) == [200, 503]


async def test_a_request_for_a_full_resource_is_shed_before_it_starts(talk: Talk) -> None:
    talk.admission.open = True
    full = QueueLimit("test", lambda: PoolState(False, 1, 5), clock=lambda: 0.0)
    full._permit_seconds = full._releases = 1.0
    assert full.refuses()
    for _ in range(MIN_IN_A_ROW):
        talk.shedding.record({"method": "GET", "path": "/x"}, full)
    assert await talk.say(GET + GET.replace(b"/x", b"/y")) == [503, 200]


async def test_a_queued_request_is_served_when_it_is_started(talk: Talk) -> None:
    talk.admission.has_room = True
    assert await talk.say(GET) == []
    talk.admission.queued.pop()()
    await turns()
    assert await talk.say(b"") == [200]


async def test_a_queued_request_whose_client_left_is_not_served(talk: Talk) -> None:
    talk.admission.has_room = True
    await talk.say(GET)
    talk.protocol.connection_lost(None)
    talk.admission.queued.pop()()
    assert not talk.state.tasks


async def test_a_body_after_the_refusal_is_not_read_as_the_next_request(talk: Talk) -> None:
    post = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 70000\r\n\r\n"
    assert await talk.say(post + b"GET /y HT") == [503]
    assert await talk.say(b"x" * (70000 - len(b"GET /y HT"))) == [503]
    assert await talk.say(GET) == [503, 503]
    chunked = b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
    assert await talk.say(chunked) == [503] * 3
    assert await talk.say(b"0\r\n\r\n" + GET) == [503] * 4


async def test_a_refused_expect_100_continue_closes_the_connection(talk: Talk) -> None:
    post = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n"
    assert await talk.say(post) == [503]
    assert talk.wire.answers[0][1]["connection"] == "close"
    assert talk.wire.closed


@pytest.mark.parametrize(
    "request_line", [b"GET /x HTTP/1.0\r\n\r\n", b"GET /x HTTP/1.1\r\nConnection: close\r\n\r\n"]
)
async def test_a_connection_for_one_request_closes_after_its_refusal(
    talk: Talk, request_line: bytes
) -> None:
    assert await talk.say(request_line) == [503]
    assert talk.wire.closed


async def test_a_head_request_is_refused_without_a_body(talk: Talk) -> None:
    talk.protocol.data_received(GET.replace(b"GET", b"HEAD"))
    head, _, body = talk.wire.sent.partition(b"\r\n\r\n")
    assert b"503" in head
    assert body == b""


async def test_a_draining_worker_closes_with_its_refusal(talk: Talk) -> None:
    talk.drain.begin()
    assert await talk.say(GET) == [503]
    assert talk.wire.answers[0][1]["connection"] == "close"
    assert talk.wire.closed


class Client:
    """A client of the protocol over a socket; the loop reads nothing until the test waits."""

    def __init__(self, talk: Talk) -> None:
        near, self._far = socket.socketpair()
        near.setblocking(False)
        self._far.settimeout(5)
        self._near, self._protocol = near, talk.protocol

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.connect_accepted_socket(lambda: self._protocol, self._near)
        await self.ask()

    def say(self, data: bytes) -> None:
        self._far.sendall(data)

    async def answer(self) -> bytes:
        """Return one answer, which is read as a whole."""
        return await asyncio.to_thread(self._far.recv, 10_000)

    async def rest(self) -> bytes:
        """Return everything until the server closes."""
        found = piece = await self.answer()
        while piece:
            piece = await self.answer()
            found += piece
        return found

    async def ask(self) -> bytes:
        self.say(GET)
        return await self.answer()

    def close(self) -> None:
        self._far.close()


@pytest.fixture
async def line() -> AsyncIterator[tuple[Client, Talk]]:
    talk = Talk()
    line = Client(talk)
    await line.open()
    yield line, talk
    line.close()
    await turns()


async def test_a_request_sent_just_before_shutdown_is_answered(
    line: tuple[Client, Talk],
) -> None:
    client, talk = line
    talk.drain.begin()
    client.say(GET)
    talk.protocol.shutdown()
    answer = await client.rest()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nconnection: close\r\n" in answer


async def test_a_request_sent_just_before_the_keep_alive_timeout_is_answered(
    line: tuple[Client, Talk],
) -> None:
    client, talk = line
    client.say(GET)
    talk.protocol.timeout_keep_alive_handler()
    assert (await client.answer()).startswith(b"HTTP/1.1 503 ")
    assert (await client.ask()).startswith(b"HTTP/1.1 503 ")


@pytest.mark.parametrize("end", ["shutdown", "timeout_keep_alive_handler"])
async def test_an_idle_connection_is_closed(line: tuple[Client, Talk], end: str) -> None:
    client, talk = line
    getattr(talk.protocol, end)()
    assert await client.rest() == b""


async def test_a_request_in_flight_at_shutdown_is_answered(
    line: tuple[Client, Talk],
) -> None:
    client, talk = line
    talk.admission.has_room = True
    client.say(GET)
    await until(lambda: bool(talk.admission.queued))
    talk.protocol.shutdown()
    talk.admission.queued.pop()()
    assert (await client.rest()).startswith(b"HTTP/1.1 200 ")


async def test_thousands_of_requests_in_one_piece_are_answered_in_order(talk: Talk) -> None:
    talk.admission.has_room = True
    count = 3000
    numbered = b"".join(GET.replace(b"/x", b"/%d" % number) for number in range(count))
    assert await talk.say(numbered) == []
    # The first waits; once it is served, all the others are refused.
    talk.admission.has_room = False
    talk.admission.queued.pop()()
    await until(lambda: talk.wire.sent.count(b"HTTP/1.1") == count)
    answers = talk.wire.answers
    assert [status for status, _, _ in answers] == [200] + [503] * (count - 1)
    paths = [json.loads(body)["instance"] for _, _, body in answers[1:]]
    assert paths == [f"/{number}" for number in range(1, count)]


async def test_a_head_over_the_limit_is_431_in_one_piece_or_many(talk: Talk) -> None:
    talk.admission.open = True
    assert await talk.say(GET) == [200]
    line = b"X-Many: " + b"x" * 1000 + b"\r\n"
    assert await talk.say(b"GET /x HTTP/1.1\r\n" + line * 60) == [200]
    assert await talk.say(line * 10) == [200, 431]
    _, headers, body = talk.wire.answers[1]
    assert headers["connection"] == "close"
    assert json.loads(body)["detail"] == "The head of the request is larger than 65536 bytes."
    assert talk.wire.closed


async def test_a_large_body_does_not_count_as_head(talk: Talk) -> None:
    talk.admission.open = True
    post = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n"
    assert await talk.say(post + b"x" * 300_000) == [200]
    assert await talk.say(GET) == [200, 200]


async def test_a_large_head_in_one_piece_with_its_end_is_431(talk: Talk) -> None:
    talk.admission.open = True
    line = b"X-Many: " + b"x" * 1000 + b"\r\n"
    large = GET.replace(b"\r\n\r\n", b"\r\n" + line * 66 + b"\r\n")
    assert await talk.say(GET) == [200]
    assert await talk.say(large) == [200, 431]
    assert talk.wire.closed


async def test_pipelined_heads_are_measured_one_by_one(talk: Talk) -> None:
    talk.admission.open = True
    count = 3000
    await talk.say(GET * count)
    await until(lambda: talk.wire.sent.count(b"HTTP/1.1 200") == count)


CHUNKED = b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


async def test_a_trailer_is_no_header(talk: Talk) -> None:
    talk.admission.has_room = True
    await talk.say(CHUNKED + b"0\r\nX-Request-ID: forged\r\n\r\n")
    (cycle,) = (each.args[0] for each in cast("list[partial[None]]", talk.admission.queued))
    assert [name for name, _ in cycle.scope["headers"]] == [b"host", b"transfer-encoding"]


async def test_trailers_are_counted_and_headers_are_not(talk: Talk) -> None:
    talk.admission.open = True
    before = protocol.TRAILERS._value.get()
    await talk.say(GET + CHUNKED + b"0\r\n\r\n")
    assert protocol.TRAILERS._value.get() == before
    await talk.say(CHUNKED + b"0\r\nX-A: a\r\nX-B: b\r\n\r\n" + GET)
    assert protocol.TRAILERS._value.get() == before + 2


@pytest.mark.parametrize("begin", [b"0\r\n", b"0\r\nX-Endless: a", b"1;extension"])
async def test_trailers_and_extensions_have_an_end(talk: Talk, begin: bytes) -> None:
    talk.admission.has_room = True
    await talk.say(CHUNKED + begin)
    more = b"x" * 1000 if begin.endswith((b"a", b"n")) else b"X-Many: " + b"x" * 990 + b"\r\n"
    for _ in range(65):
        assert not talk.wire.closed
        await talk.say(more)
    await talk.say(more)
    assert talk.wire.closed


async def test_chunks_of_one_byte_are_no_head(talk: Talk) -> None:
    talk.admission.has_room = True
    await talk.say(CHUNKED)
    for _ in range(100):
        await talk.say(b"1\r\na\r\n" * 200)
    assert not talk.wire.closed


async def test_nothing_is_read_while_a_pipelined_request_waits(talk: Talk) -> None:
    talk.admission.has_room = True
    await talk.say(GET * 3)
    reading = []
    for _ in range(3):
        talk.admission.queued.pop()()
        await turns()
        reading.append(talk.wire.reading)
    assert reading == [False, False, True]


async def test_nothing_is_read_from_a_client_that_does_not_read(talk: Talk) -> None:
    assert await talk.say(GET) == [503]
    talk.protocol.pause_writing()
    assert not talk.wire.reading
    talk.protocol.on_response_complete()
    assert not talk.wire.reading
    talk.protocol.resume_writing()
    assert talk.wire.reading


UPGRADE = (
    b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n%b\r\n"
)


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (b"Content-Length: 1\r\n", 400),
        (b"Transfer-Encoding: chunked\r\n", 400),
        (b"Sec-WebSocket-Version: 12\r\n", 400),
        (b"X-A: \x80\r\nX-B: %b\r\n" % (b"x" * 9000), 431),
        (b"X-A: a\r\n" * 130, 431),
    ],
)
async def test_a_bad_handshake_is_answered_and_closed(
    talk: Talk, lines: bytes, status: int
) -> None:
    assert await talk.say(UPGRADE % lines) == [status]
    _, headers, body = talk.wire.answers[0]
    assert headers["X-Request-ID".lower()] == json.loads(body)["request_id"]
    assert headers["x-content-type-options"] == "nosniff"
    assert talk.wire.closed
    for connection in talk.state.connections:
        connection.shutdown()


async def test_an_upgrade_waits_for_no_other_answer(talk: Talk) -> None:
    talk.admission.has_room = True
    assert await talk.say(GET + UPGRADE % b"") == []
    assert talk.wire.closed


async def test_a_connection_that_cannot_be_closed_costs_no_other(
    talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("no state for that")

    monkeypatch.setattr(HttpToolsProtocol, "shutdown", fail)
    talk.protocol.shutdown()
    assert talk.wire.closed


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Set the time of the protocol forward."""
    now = time.monotonic()

    def forward(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(AdmittingProtocol, "clock", lambda _: now)
    return forward


async def test_a_head_that_takes_too_long_is_408(
    clock: Callable[[float], None], talk: Talk
) -> None:
    talk.admission.open = True
    assert await talk.say(GET) == [200]
    await talk.say(b"GET /")
    for _ in range(9):
        await talk.say(b"a")
        clock(1)
        talk.protocol.end_if_slow()
        assert not talk.wire.closed
    clock(2)
    talk.protocol.end_if_slow()
    assert [status for status, _, _ in talk.wire.answers] == [200, 408]
    assert talk.wire.closed


async def test_a_connection_without_a_request_is_closed_like_an_idle_one(
    clock: Callable[[float], None], talk: Talk
) -> None:
    keep_alive = talk.protocol.timeout_keep_alive
    clock(keep_alive)
    talk.protocol.end_if_slow()
    before = talk.wire.closed
    clock(1)
    talk.protocol.end_if_slow()
    assert (before, talk.wire.closed) == (False, True)
    assert talk.wire.sent == b""


async def test_the_rest_of_a_refused_body_has_a_deadline(
    clock: Callable[[float], None], talk: Talk
) -> None:
    post = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 70000\r\n\r\n"
    assert await talk.say(post) == [503]
    assert await talk.say(b"x") == [503]
    talk.protocol.end_if_slow()
    clock(talk.protocol.timeout_keep_alive + 1)
    talk.protocol.end_if_slow()
    assert talk.wire.closed


async def test_a_queued_request_is_no_slow_head(clock: Callable[[float], None], talk: Talk) -> None:
    talk.admission.has_room = True
    await talk.say(GET)
    for _ in range(3):
        clock(1000)
        talk.protocol.end_if_slow()
    assert not talk.wire.closed


async def test_an_upgrade_request_goes_through_admission(talk: Talk) -> None:
    upgrade = GET.replace(b"\r\n\r\n", b"\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
    assert await talk.say(upgrade) == [503]


def test_it_supports_the_installed_uvicorn_and_no_changed_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert protocol.supported()

    def start(self: object, cycle: object, app: object, more: object) -> None:
        """Take another argument."""

    monkeypatch.setattr(HttpToolsProtocol, "_start_asgi_task", cast("Any", start))
    assert not protocol.supported()
