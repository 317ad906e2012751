"""The load client against servers that misbehave, on the loopback: it must excuse none of it."""

import asyncio
import base64
import hashlib
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from kit.tests.e2e.load.client import Load, Pool, options
from kit.tests.e2e.load.tally import may_be_chance, percentiles
from kit.tests.e2e.load.traffic import Health
from kit.tests.e2e.load.wire import Answer, Connection, Ended, Failure, Socket, connect

pytestmark = pytest.mark.anyio

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n" + b'{"status":"healthy"}'
LAST = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)
PROBLEM = json.dumps({"status": 503, "detail": "later"}).encode()
REFUSED = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\n"
    b"Retry-After: 1\r\nContent-Length: %d\r\n\r\n%s" % (len(PROBLEM), PROBLEM)
)
Behave = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(behave: Behave) -> AsyncIterator[int]:
    """Give the port of a server that behaves so on each connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await behave(reader, writer)
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def requested(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


def answering(*answers: bytes) -> Behave:
    """Answer one request after another with these bytes, then hang up."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await requested(reader)
            writer.write(answer)
            await writer.drain()

    return behave


async def resetting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await requested(reader)
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def ask(port: int, times: int = 1, *, seconds: float = 30) -> Answer:
    connection = await connect("127.0.0.1", port)
    try:
        for _ in range(times - 1):
            await connection.ask("GET", "/", seconds=seconds)
        return await connection.ask("GET", "/", seconds=seconds)
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("behave", "kind"),
    [
        (resetting, "reset before an answer"),
        (silent, "timeout"),
        (answering(b""), "end before an answer"),
        (answering(b"HTTP/1.1 200 OK\r\nContent-"), "end before an answer"),
        (answering(OK[:-1]), "end amid an answer"),
        (answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), "end amid an answer"),
        (
            answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n"),
            "end amid an answer",
        ),
        (answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n"), "bad answer"),
        (
            answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nokay\r\n"),
            "bad answer",
        ),
        (answering(b"HTTP/1.1 200 OK\r\n\r\nhello"), "bad answer"),
        (answering(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"), "bad answer"),
        (answering(b"<html>hello</html>\r\n\r\n"), "bad answer"),
        (answering(b"HTTP/1.1 200 OK\r\n" + b"X: " + b"x" * 70_000), "bad answer"),
    ],
)
async def test_whatever_cannot_be_foreseen_is_a_failure_of_its_kind(
    behave: Behave, kind: str
) -> None:
    async with serving(behave) as port:
        with pytest.raises(Failure) as failure:
            await ask(port, seconds=0.2 if behave is silent else 30)
    assert failure.value.kind == kind


async def test_a_body_longer_than_it_says_spoils_the_next_answer() -> None:
    async with serving(answering(OK + b"more\r\n\r\n", OK)) as port:
        with pytest.raises(Failure) as failure:
            await ask(port, times=2)
    assert failure.value.kind == "bad answer"


async def test_a_port_that_nobody_listens_on_is_refused() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(Failure) as failure:
            await ask(taken.getsockname()[1])
    assert failure.value.kind == "refused"


async def test_a_request_after_an_unannounced_end_is_a_failure() -> None:
    async with serving(answering(OK)) as port:
        with pytest.raises(Failure) as failure:
            await ask(port, times=2)
    assert failure.value.kind in {"end before an answer", "reset before an answer"}


async def test_a_connection_is_kept_and_an_announced_end_is_told() -> None:
    async with serving(answering(OK, OK, LAST)) as port:
        answer = await ask(port, times=3)
    assert answer.closing
    assert json.loads(answer.body) == {"status": "healthy"}


async def test_pieces_are_put_together_and_trailers_and_interim_answers_are_skipped() -> None:
    pieces = (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 1\r\n\r\n"
    )
    async with serving(answering(pieces, OK)) as port:
        connection = await connect("127.0.0.1", port)
        assert (await connection.ask("GET", "/")).body == b"abcde"
        assert (await connection.ask("GET", "/")).status == 200
        connection.close()


async def run(port: int, *more: str) -> dict[str, dict[str, object]]:
    chosen = ["--rate", "200", "--seconds", "0.1", "--connections", "4", "--idle", "0"]
    return await Load(Health(), options([f"http://127.0.0.1:{port}", *chosen, *more])).run()


async def test_each_failure_is_counted_once_and_nothing_is_tried_again() -> None:
    asked = 0

    async def every_third(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        while True:
            await requested(reader)
            asked += 1
            if asked % 3 == 0:
                return
            writer.write(OK)

    async with serving(every_third) as port:
        result = await run(port)
    assert result["busy"]["requests"] == asked
    assert result["busy"]["failed"] == asked // 3 > 0
    assert set(result["busy"]["failures"]) == {"end before an answer"}  # type: ignore[call-overload]


async def test_a_problem_is_told_from_another_refusal() -> None:
    turns = iter([REFUSED, REFUSED.replace(b"Retry-After", b"Retry-Later")] * 50)

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await requested(reader)
            writer.write(next(turns))

    async with serving(refuse) as port:
        result = await run(port)
    assert set(result["busy"]["failures"]) == {"503 problem", "503"}  # type: ignore[call-overload]
    assert result["busy"]["failed"] == result["busy"]["requests"]


async def test_another_answer_than_the_right_one_is_a_failure() -> None:
    async with serving(answering(OK.replace(b"healthy", b"strange"))) as port:
        result = await run(port, "--rate", "10", "--connections", "1")
    assert set(result["busy"]["failures"]) == {"wrong answer"}  # type: ignore[call-overload]


async def test_what_was_closed_without_a_word_is_counted_and_what_was_announced_is_fine() -> None:
    async with serving(answering(OK, LAST)) as port:
        pool = Pool("127.0.0.1", port, size=1, pause=5)
        for _ in range(2):
            connection = await pool.take()
            pool.give(connection, await connection.ask("GET", "/"))
    assert (pool.opened, pool.announced, pool.silent) == (1, 1, 0)
    async with serving(answering(OK)) as port:
        pool = Pool("127.0.0.1", port, size=1, pause=5)
        connection = await pool.take()
        pool.give(connection, await connection.ask("GET", "/"))
        while not connection.ended:  # noqa: ASYNC110 - the stream tells nobody
            await asyncio.sleep(0)
        pool.drop(await pool.take())
    assert (pool.opened, pool.announced, pool.silent) == (2, 0, 1)


async def test_a_connection_that_waited_too_long_is_not_used_again() -> None:
    async with serving(answering(OK, OK)) as port:
        pool = Pool("127.0.0.1", port, size=1, pause=-1)
        connection = await pool.take()
        pool.give(connection, await connection.ask("GET", "/"))
        other = await pool.take()
        assert other is not connection
        assert pool.unused == 1
        pool.drop(other)


def test_a_rate_that_leaves_connections_alone_for_half_a_drain_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        options(["http://x", "--rate", "10", "--connections", "24", "--drain-seconds", "4.6"])
    assert "half a drain" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("failed", "requests", "chance"),
    [
        (0, 10_000, True),
        (4, 10_700, True),
        (5, 10_700, False),
        (30, 200_000, True),
        (35, 200_000, False),
        (1, 100, False),
    ],
)
def test_a_share_is_exceeded_where_so_many_failures_would_hardly_be_chance(
    failed: int, requests: int, chance: bool
) -> None:
    assert may_be_chance(failed, requests, share=1 / 10_000) == chance


def test_percentiles_are_of_the_rank_rounded_up() -> None:
    measured = percentiles([number / 1000 for number in range(1, 101)])
    assert measured == {"p50": 50, "p90": 90, "p99": 99, "p99.9": 100, "max": 100}
    assert percentiles([])["max"] == 0


def till(*frames: bytes) -> Behave:
    """Accept a WebSocket, and answer each message with some frames."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await requested(reader)).decode()
        (key,) = [line[19:] for line in head.split("\r\n") if line.startswith("Sec-WebSocket-Key")]
        digest = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
        accepted = base64.b64encode(digest).decode()
        writer.write(
            f"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: {accepted}\r\n\r\n".encode()
        )
        for answer in frames:
            _, size = await reader.readexactly(2)
            mask = await reader.readexactly(4)
            payload = await reader.readexactly(size & 0x7F)
            assert bytes(b ^ mask[i % 4] for i, b in enumerate(payload)) == b"scan"
            writer.write(answer)

    return behave


def frame(opcode: int, payload: bytes) -> bytes:
    size = len(payload)
    length = bytes([size]) if size < 126 else b"\x7e" + struct.pack("!H", size)
    return bytes([0x80 | opcode]) + length + payload


@asynccontextmanager
async def opened(*frames: bytes) -> AsyncIterator[Socket]:
    async with serving(till(*frames)) as port:
        connection: Connection = await connect("127.0.0.1", port)
        yield await connection.upgrade("/till")
        connection.close()


async def test_a_socket_answers_long_and_short_and_a_ping_is_no_answer() -> None:
    async with opened(frame(9, b"") + frame(1, b"x" * 300)) as socket:
        assert await socket.ask("scan") == "x" * 300


RESTART = struct.pack("!H", 1012)


async def test_a_socket_that_is_ended_politely_after_an_answer_has_ended() -> None:
    async with opened(frame(1, b"price") + frame(8, RESTART)) as socket:
        assert await socket.ask("scan") == "price"
        with pytest.raises(Ended):
            await socket.rest(30)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (frame(8, RESTART), "question without answer"),
        (frame(8, struct.pack("!H", 1011) + b"bug"), "socket ended 1011"),
        (frame(8, b""), "socket ended 1005"),
        (b"\x01\x01x", "bad answer"),
        (b"", "end of a socket"),
        (frame(1, b"price")[:-1], "end of a socket"),
    ],
)
async def test_a_socket_that_ends_otherwise_is_a_failure(answer: bytes, kind: str) -> None:
    async with opened(answer) as socket:
        with pytest.raises(Failure) as failure:
            await socket.ask("scan")
    assert failure.value.kind == kind


async def test_a_socket_that_speaks_unasked_is_a_failure_and_silence_is_none() -> None:
    async with opened(frame(1, b"price") + frame(1, b"more")) as socket:
        await socket.ask("scan")
        with pytest.raises(Failure) as failure:
            await socket.rest(30)
    assert failure.value.kind == "bad answer"
    async with opened(frame(1, b"price"), b"") as socket:
        await socket.ask("scan")
        await socket.rest(0.01)


async def test_a_socket_that_is_not_accepted_is_a_failure() -> None:
    async with serving(answering(REFUSED)) as port:
        connection = await connect("127.0.0.1", port)
        with pytest.raises(Failure) as failure:
            await connection.upgrade("/till")
        connection.close()
    assert failure.value.kind == "socket refused 503"
