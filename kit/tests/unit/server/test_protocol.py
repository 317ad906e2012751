"""The protocol that asks before it starts a request, fed with the bytes of a connection."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest
from starlette.types import Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from kit.tests.support.turns import turns, until
from slipway_kit.config.server import ServerSettings
from slipway_kit.http.drain import Drain
from slipway_kit.http.refusals import Refusals
from slipway_kit.overload.admission import Admission
from slipway_kit.overload.queue_limit import Places, QueueLimit
from slipway_kit.overload.route_shedding import SURE, RouteShedding
from slipway_kit.server import protocol
from slipway_kit.server.protocol import AdmittingProtocol

pytestmark = pytest.mark.anyio

GET = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"


class Door(Admission):
    """Opens and shuts as it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = self.has_room = False
        self.kept: list[Callable[[], None]] = []

    def enter(self) -> bool:
        return self.opened

    def wait(self, start: Callable[[], None]) -> bool:
        if self.has_room:
            self.kept.append(start)
        return self.has_room


class Wire(asyncio.Transport):
    """A connection whose other end keeps what it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.sent, self.closed = b"", False

    def write(self, data: Any) -> None:
        assert not self.closed
        self.sent += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        """Go on reading: what comes is up to the test."""

    def resume_reading(self) -> None:
        """Go on reading."""

    @property
    def answers(self) -> list[tuple[int, dict[str, str], bytes]]:
        """Take what was sent apart."""
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
    """One connection to the protocol, with a door of its own."""

    def __init__(self) -> None:
        self.door, self.wire, self.drain = Door(), Wire(), Drain()
        self.shedding = RouteShedding()
        self.state = ServerState()
        self.protocol = AdmittingProtocol(
            config=Config(app, http="httptools", lifespan="off"),
            server_state=self.state,
            app_state={},
            admission=self.door,
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


async def test_one_that_is_let_in_is_served(talk: Talk) -> None:
    talk.door.opened = True
    assert await talk.say(GET) == [200]


async def test_one_that_is_refused_gets_a_problem_and_the_connection_stays(talk: Talk) -> None:
    assert await talk.say(GET) == [503]
    _, headers, body = talk.wire.answers[0]
    assert headers["content-type"] == "application/problem+json"
    assert headers["retry-after"] == "1"
    assert headers["x-request-id"] == json.loads(body)["request_id"]
    assert not talk.wire.closed
    talk.door.opened = True
    assert await talk.say(GET) == [503, 200]
    assert talk.state.total_requests == 2
    assert not talk.state.tasks


async def test_probes_are_served_while_all_else_is_refused(talk: Talk) -> None:
    assert await talk.say(GET.replace(b"/x", b"/livez?a=b") + GET) == [200, 503]


async def test_one_that_would_be_refused_inside_is_refused_at_the_door(talk: Talk) -> None:
    talk.door.opened = True
    full = QueueLimit("test", lambda: Places(False, 1, 5), clock=lambda: 0.0)
    full._areas = full._returns = 1.0
    assert full.refuses()
    for _ in range(SURE):
        talk.shedding.note({"method": "GET", "path": "/x"}, full)
    assert await talk.say(GET + GET.replace(b"/x", b"/y")) == [503, 200]


async def test_one_that_waits_is_served_when_it_is_its_turn(talk: Talk) -> None:
    talk.door.has_room = True
    assert await talk.say(GET) == []
    talk.door.kept.pop()()
    await turns()
    assert await talk.say(b"") == [200]


async def test_one_that_leaves_while_it_waits_is_not_served(talk: Talk) -> None:
    talk.door.has_room = True
    await talk.say(GET)
    talk.protocol.connection_lost(None)
    talk.door.kept.pop()()
    assert not talk.state.tasks


async def test_a_body_that_comes_after_the_refusal_is_no_next_request(talk: Talk) -> None:
    post = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 70000\r\n\r\n"
    assert await talk.say(post + b"GET /y HT") == [503]
    assert await talk.say(b"x" * (70000 - len(b"GET /y HT"))) == [503]
    assert await talk.say(GET) == [503, 503]
    chunked = b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
    assert await talk.say(chunked) == [503] * 3
    assert await talk.say(b"0\r\n\r\n" + GET) == [503] * 4


async def test_who_asks_before_sending_a_body_is_told_to_leave(talk: Talk) -> None:
    post = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n"
    assert await talk.say(post) == [503]
    assert talk.wire.answers[0][1]["connection"] == "close"
    assert talk.wire.closed


@pytest.mark.parametrize(
    "request_line", [b"GET /x HTTP/1.0\r\n\r\n", b"GET /x HTTP/1.1\r\nConnection: close\r\n\r\n"]
)
async def test_who_wants_one_answer_gets_one(talk: Talk, request_line: bytes) -> None:
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


class Line:
    """A client of the protocol, whose loop reads nothing while the test does not wait."""

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
        """Return a refusal, which comes in one piece."""
        return await asyncio.to_thread(self._far.recv, 10_000)

    async def rest(self) -> bytes:
        """Return all that comes until the other end has closed."""
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
async def line() -> AsyncIterator[tuple[Line, Talk]]:
    talk = Talk()
    line = Line(talk)
    await line.open()
    yield line, talk
    line.close()
    await turns()


async def test_who_has_just_asked_when_the_worker_stops_gets_an_answer(
    line: tuple[Line, Talk],
) -> None:
    client, talk = line
    talk.drain.begin()
    client.say(GET)
    talk.protocol.shutdown()
    answer = await client.rest()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nconnection: close\r\n" in answer


async def test_who_has_just_asked_when_it_was_idle_for_long_gets_an_answer(
    line: tuple[Line, Talk],
) -> None:
    client, talk = line
    client.say(GET)
    talk.protocol.timeout_keep_alive_handler()
    assert (await client.answer()).startswith(b"HTTP/1.1 503 ")
    assert (await client.ask()).startswith(b"HTTP/1.1 503 ")


@pytest.mark.parametrize("end", ["shutdown", "timeout_keep_alive_handler"])
async def test_who_has_asked_for_nothing_is_closed(line: tuple[Line, Talk], end: str) -> None:
    client, talk = line
    getattr(talk.protocol, end)()
    assert await client.rest() == b""


async def test_who_waits_for_an_answer_when_the_worker_stops_gets_it(
    line: tuple[Line, Talk],
) -> None:
    client, talk = line
    talk.door.has_room = True
    client.say(GET)
    await until(lambda: bool(talk.door.kept))
    talk.protocol.shutdown()
    talk.door.kept.pop()()
    assert (await client.rest()).startswith(b"HTTP/1.1 200 ")


async def test_thousands_of_requests_in_one_piece_are_answered_in_order(talk: Talk) -> None:
    talk.door.has_room = True
    count = 3000
    numbered = b"".join(GET.replace(b"/x", b"/%d" % number) for number in range(count))
    assert await talk.say(numbered) == []
    # The first waits; when it is served, all the others find route shedding shut.
    talk.door.has_room = False
    talk.door.kept.pop()()
    await until(lambda: talk.wire.sent.count(b"HTTP/1.1") == count)
    answers = talk.wire.answers
    assert [status for status, _, _ in answers] == [200] + [503] * (count - 1)
    paths = [json.loads(body)["instance"] for _, _, body in answers[1:]]
    assert paths == [f"/{number}" for number in range(1, count)]


async def test_a_head_that_is_too_large_is_431_however_it_comes(talk: Talk) -> None:
    talk.door.opened = True
    assert await talk.say(GET) == [200]
    line = b"X-Many: " + b"x" * 1000 + b"\r\n"
    assert await talk.say(b"GET /x HTTP/1.1\r\n" + line * 60) == [200]
    assert await talk.say(line * 10) == [200, 431]
    _, headers, body = talk.wire.answers[1]
    assert headers["connection"] == "close"
    assert json.loads(body)["detail"] == "The head of the request is larger than 65536 bytes."
    assert talk.wire.closed


async def test_a_large_body_is_no_head(talk: Talk) -> None:
    talk.door.opened = True
    post = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n"
    assert await talk.say(post + b"x" * 300_000) == [200]
    assert await talk.say(GET) == [200, 200]


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
    talk.door.opened = True
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


async def test_a_connection_that_says_nothing_is_closed_like_an_idle_one(
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


async def test_the_rest_of_a_body_that_nobody_reads_is_not_waited_for_for_ever(
    clock: Callable[[float], None], talk: Talk
) -> None:
    post = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 70000\r\n\r\n"
    assert await talk.say(post) == [503]
    assert await talk.say(b"x") == [503]
    talk.protocol.end_if_slow()
    clock(talk.protocol.timeout_keep_alive + 1)
    talk.protocol.end_if_slow()
    assert talk.wire.closed


async def test_while_a_request_is_served_or_waits_nothing_is_slow(
    clock: Callable[[float], None], talk: Talk
) -> None:
    talk.door.has_room = True
    await talk.say(GET)
    for _ in range(3):
        clock(1000)
        talk.protocol.end_if_slow()
    assert not talk.wire.closed


async def test_an_upgrade_is_not_asked(talk: Talk) -> None:
    upgrade = GET.replace(b"\r\n\r\n", b"\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
    assert await talk.say(upgrade) == [503]


def test_it_knows_the_uvicorn_that_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert protocol.supported()

    def start(self: object, cycle: object, app: object, more: object) -> None:
        """Want something else."""

    monkeypatch.setattr(HttpToolsProtocol, "_start_asgi_task", cast("Any", start))
    assert not protocol.supported()
