"""Another service, on a socket of the test's own event loop, that answers well or badly."""

import asyncio
import gzip
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

SLOW_SECONDS = 0.2
KIB = b"x" * 1024


class Upstream:
    """Answers by path; counts connections and remembers requests, `"GET /ok"`.

    A path with a list in `statuses` is answered with one after another, then with 200.
    """

    def __init__(self) -> None:
        self.port = 0
        self.accepted = self.open = self.most_open = 0
        self.requests: list[str] = []
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.statuses: dict[str, list[int]] = {}
        self.extra_headers: list[str] = []
        self.closed = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        self.accepted += 1
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                while True:
                    await self._one(reader, writer)
        finally:
            self.open -= 1
            self.closed.set()
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.strip().split("\r\n")
        method, path, _ = first.split()
        headers = {name.lower(): value for name, value in (line.split(": ") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        self.requests.append(f"{method} {path}")
        self.headers.append(headers)
        self.bodies.append(body)
        if path == "/silent":
            # Until the client leaves.
            await reader.readexactly(1)
        answers: dict[str, Callable[[asyncio.StreamWriter], Awaitable[None]]] = {
            "/slow": self._slow,
            "/reset": self._reset,
            "/half": self._half,
            "/garbage": self._garbage,
            "/endless": self._endless,
            "/bomb": self._bomb,
        }
        await answers.get(path, self._plain(path))(writer)

    def _plain(self, path: str) -> Callable[[asyncio.StreamWriter], Awaitable[None]]:
        async def answer(writer: asyncio.StreamWriter) -> None:
            await self.go_on.wait()
            statuses = self.statuses.get(path)
            status = statuses.pop(0) if statuses else 200
            extra = "".join(f"{line}\r\n" for line in self.extra_headers)
            writer.write(f"HTTP/1.1 {status} X\r\n{extra}Content-Length: 2\r\n\r\nok".encode())
            await writer.drain()

        return answer

    async def _slow(self, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(SLOW_SECONDS)
        await self._plain("/slow")(writer)

    async def _reset(self, writer: asyncio.StreamWriter) -> None:
        # Lingering for no time sends a reset.
        connection: socket.socket = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        raise ConnectionAbortedError

    async def _half(self, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        await writer.drain()
        await self._reset(writer)

    async def _garbage(self, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\x00\x01 no HTTP at all\r\n\r\n")
        await writer.drain()

    async def _endless(self, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"400\r\n" + KIB + b"\r\n")
            await writer.drain()
            # A closed connection is noticed when it is written to; others have a turn meanwhile.
            await asyncio.sleep(0)

    async def _bomb(self, writer: asyncio.StreamWriter) -> None:
        packed = gzip.compress(KIB * 1024)
        head = f"Content-Encoding: gzip\r\nContent-Length: {len(packed)}\r\n\r\n"
        writer.write(b"HTTP/1.1 200 OK\r\n" + head.encode() + packed)
        await writer.drain()


@asynccontextmanager
async def open_upstream() -> AsyncIterator[Upstream]:
    """Serve until the block ends; then every connection is closed."""
    upstream = Upstream()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        tasks.add(task)
        try:
            await upstream.serve(reader, writer)
        except asyncio.CancelledError:
            # The test is over; asyncio would log it as an error.
            pass
        finally:
            tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=200)
    upstream.port = server.sockets[0].getsockname()[1]
    try:
        yield upstream
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
