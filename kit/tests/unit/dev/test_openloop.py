"""The generator sends what is due, when it is due, and tells what became of it."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trustme

from slipway_kit.dev.openloop import Load, Plan, Stream

pytestmark = pytest.mark.anyio


class Server:
    """Answers after a while, by path."""

    def __init__(self) -> None:
        self.port = 0
        self.asked: list[str] = []
        self.bodies: list[bytes] = []
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                path = head.split()[1].decode()
                self.asked.append(path)
                if b"Content-Length: " in head:
                    length = int(head.partition(b"Content-Length: ")[2].split()[0])
                    self.bodies.append(await reader.readexactly(length))
                if path == "/gone":
                    break
                await asyncio.sleep(0.05 if path == "/slow" else 0)
                status = b"503" if path == "/busy" else b"200"
                more = b"connection: close\r\n" if path == "/close" else b""
                # In two pieces, as a network may deliver it.
                writer.write(b"HTTP/1.1 " + status + b" X\r\n" + more + b"Content-Length: 2\r\n")
                await asyncio.sleep(0)
                writer.write(b"\r\nok")
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def listening(tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    found = Server()
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0, ssl=tls)
    found.port = server.sockets[0].getsockname()[1]
    yield found
    server.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with listening() as found:
        yield found


def test_requests_are_due_at_random_moments_that_a_seed_repeats() -> None:
    streams = [Stream("/a", 100, 0, 2), Stream("/b", 50, 1, 2)]
    due = Plan(0, streams, seed=3).due()
    assert due == Plan(0, streams, seed=3).due()
    assert due != Plan(0, streams, seed=4).due()
    assert due == sorted(due)
    counts = [sum(number == each for _, number in due) for each in (0, 1)]
    assert counts[0] == pytest.approx(200, rel=0.3)
    assert counts[1] == pytest.approx(50, rel=0.5)
    assert all(moment >= 1 for moment, number in due if number == 1)


async def test_every_request_is_sent_however_slow_the_answers(server: Server) -> None:
    plan = Plan(server.port, [Stream("/slow", 200, 0, 0.3), Stream("/busy", 50, 0, 0.3)])
    result = await Load(plan).run()
    assert len(result.answers) == len(plan.due()) == len(server.asked) == len(result.lateness)
    assert {(status, stream) for _, _, status, stream in result.answers} == {(200, 0), (503, 1)}
    # Those that are slow do not keep the others from being sent.
    assert server.connections > 5
    assert all(took >= 0.04 for _, took, status, _ in result.answers if status == 200)


async def test_connections_are_used_again_unless_the_server_ends_them(server: Server) -> None:
    await Load(Plan(server.port, [Stream("/quick", 100, 0, 0.3)])).run()
    kept = server.connections
    assert kept < server.asked.count("/quick")
    await Load(Plan(server.port, [Stream("/close", 100, 0, 0.3)])).run()
    assert server.connections - kept == server.asked.count("/close")


async def test_what_is_not_answered_is_told(server: Server) -> None:
    result = await Load(Plan(server.port, [Stream("/gone", 50, 0, 0.2)])).run()
    assert {status for _, _, status, _ in result.answers} == {0}
    assert len(result.answers) == server.asked.count("/gone")
    nobody = await Load(Plan(1, [Stream("/x", 50, 0, 0.2)])).run()
    assert {status for _, _, status, _ in nobody.answers} == {0}


async def test_bodies_are_sent_as_large_as_planned(server: Server) -> None:
    plan = Plan(server.port, [Stream("/quick", 100, 0, 0.2, body_bytes=1000)])
    result = await Load(plan).run()
    assert {status for _, _, status, _ in result.answers} == {200}
    assert len(server.bodies) == len(plan.due())
    assert {len(json.loads(body)) for body in server.bodies} == {998}


async def test_https_is_spoken_whatever_the_certificate() -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("somebody.example").configure_cert(context)
    async with listening(context) as server:
        plan = Plan(server.port, [Stream("/quick", 50, 0, 0.2)], tls=True)
        result = await Load(plan).run()
        assert {status for _, _, status, _ in result.answers} == {200}
        assert len(server.asked) == len(plan.due())


async def test_more_connections_than_allowed_are_not_opened(server: Server) -> None:
    plan = Plan(server.port, [Stream("/slow", 300, 0, 0.2)], most_connections=2)
    result = await Load(plan).run()
    assert server.connections == 2
    assert sum(status == 0 for _, _, status, _ in result.answers) > 0
    assert len(result.answers) == len(plan.due())


async def test_closed_so_many_ask_again_as_soon_as_they_have_an_answer(server: Server) -> None:
    streams = [Stream("/slow", 0, 0, 0.3), Stream("/quick", 0, 0, 0.3)]
    result = await Load(Plan(server.port, streams, closed=4)).run()
    assert server.connections == 4
    counts = [server.asked.count(path) for path in ("/slow", "/quick")]
    assert abs(counts[0] - counts[1]) <= 4
    assert len(result.answers) == len(server.asked) > server.connections
