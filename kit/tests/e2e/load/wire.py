"""A strict client: HTTP/1.1 over kept connections and WebSockets, without a second try.

Whatever a client cannot foresee is a `Failure`: a reset, an end amid an answer, silence, a body
that is shorter than it says. A connection is used until the server says that it closes it.
"""

import asyncio
import base64
import hashlib
import json
import os
import struct
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

SECONDS = 15.0
_HEAD_BYTES = 64 * 1024
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_TEXT, _CLOSE, _PING, _PONG = 1, 8, 9, 10
# What says "come back, elsewhere": the end point goes away, the service restarts.
_POLITE = frozenset({1001, 1012})


class Failure(Exception):
    """What went wrong: `kind` is one of few words, `detail` is for the reader.

    Whoever asked may note for how many `seconds` that was.
    """

    seconds = 0.0

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(kind, detail)
        self.kind, self.detail = kind, detail


class Ended(Exception):
    """The server ended a socket politely, and no question was open."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer; `closing` says that it is the last of its connection."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    closing: bool

    @property
    def problem(self) -> bool:
        """Whether it is a problem document that says when to come back."""
        if self.headers.get("content-type") != "application/problem+json":
            return False
        try:
            told = json.loads(self.body)
        except ValueError:
            return False
        return bool(told.get("status") == self.status and "retry-after" in self.headers)


class Connection:
    """One kept connection; it is asked one thing at a time."""

    def __init__(
        self, host: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._host, self._reader, self._writer = host, reader, writer
        self.used_at = asyncio.get_running_loop().time()

    @property
    def ended(self) -> bool:
        """Whether the server has closed it, as far as can be known."""
        return self._reader.at_eof() or self._reader.exception() is not None

    async def ask(
        self,
        method: str,
        target: str,
        *,
        body: bytes = b"",
        media_type: str = "",
        seconds: float = SECONDS,
    ) -> Answer:
        """Send one request and read its whole answer."""
        kind = f"Content-Type: {media_type}\r\n" if media_type else ""
        length = f"Content-Length: {len(body)}\r\n" if body or method not in {"GET", "HEAD"} else ""
        head = f"{method} {target} HTTP/1.1\r\nHost: {self._host}\r\n{kind}{length}\r\n"
        self._writer.write(head.encode() + body)
        try:
            async with asyncio.timeout(seconds):
                answer = await self._answer(method)
        except TimeoutError:
            raise Failure("timeout", f"{seconds:g} s") from None
        self.used_at = asyncio.get_running_loop().time()
        return answer

    async def upgrade(self, target: str) -> "Socket":
        """Make a WebSocket out of it."""
        key = base64.b64encode(os.urandom(16))
        self._writer.write(
            f"GET {target} HTTP/1.1\r\nHost: {self._host}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {key.decode()}\r\n\r\n".encode()
        )
        try:
            async with asyncio.timeout(SECONDS):
                with _noticed("before an answer"):
                    status, headers = await self._head()
        except TimeoutError:
            raise Failure("timeout", "of a socket") from None
        if status != 101:
            raise Failure(f"socket refused {status}")
        # The protocol wants SHA-1.
        expected = base64.b64encode(hashlib.sha1(key + _GUID).digest())
        if headers.get("sec-websocket-accept") != expected.decode():
            raise Failure("bad answer", "Sec-WebSocket-Accept")
        return Socket(self._reader, self._writer)

    def close(self) -> None:
        """Close it without a word."""
        self._writer.close()

    async def _answer(self, method: str) -> Answer:
        with _noticed("before an answer"):
            status, headers = await self._head()
        with _noticed("amid an answer"):
            content = await self._body(method, status, headers)
        return Answer(status, headers, content, headers.get("connection", "").lower() == "close")

    async def _head(self) -> tuple[int, dict[str, str]]:
        while True:
            lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            version, status, *_ = [*lines[0].split(" "), "", ""]
            if version != "HTTP/1.1" or not status.isdecimal():
                raise Failure("bad answer", lines[0][:100])
            if status == "101" or not status.startswith("1"):
                pairs = (line.partition(":") for line in lines[1:] if line)
                return int(status), {name.lower(): value.strip() for name, _, value in pairs}

    async def _body(self, method: str, status: int, headers: Mapping[str, str]) -> bytes:
        if method == "HEAD" or status in {204, 304}:
            return b""
        if headers.get("transfer-encoding") == "chunked":
            return b"".join([chunk async for chunk in self._chunks()])
        length = headers.get("content-length", "")
        if not length.isdecimal():
            raise Failure("bad answer", "it does not say how long it is")
        return await self._reader.readexactly(int(length))

    async def _chunks(self) -> AsyncIterator[bytes]:
        while True:
            line = await self._reader.readuntil(b"\r\n")
            try:
                size = int(line.partition(b";")[0], 16)
            except ValueError:
                raise Failure("bad answer", f"chunk {line[:50]!r}") from None
            if not size:
                break
            chunk = await self._reader.readexactly(size + 2)
            if not chunk.endswith(b"\r\n"):
                raise Failure("bad answer", "a chunk of another size")
            yield chunk[:-2]
        while await self._reader.readuntil(b"\r\n") != b"\r\n":
            pass


class Socket:
    """A WebSocket that asks one question at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def ask(self, question: str) -> str:
        """Send a text and return the next one; a socket that ends meanwhile is a failure."""
        self._send(_TEXT, question.encode())
        try:
            async with asyncio.timeout(SECONDS):
                return await self._text()
        except Ended as end:
            raise Failure("question without answer", str(end)) from None
        except TimeoutError:
            raise Failure("timeout", "of a socket") from None

    async def rest(self, seconds: float) -> None:
        """Wait; raise `Ended` when the server ends the socket politely meanwhile."""
        until = asyncio.get_running_loop().time() + seconds
        with _noticed("of a socket"), suppress(TimeoutError):
            while True:
                # Only between two frames: what was read of one must not get lost.
                async with asyncio.timeout_at(until):
                    head = await self._reader.readexactly(2)
                if text := await self._frame(*head):
                    raise Failure("bad answer", f"unasked: {text[:50]}")

    def close(self) -> None:
        """Say that it is over and hang up."""
        self._send(_CLOSE, struct.pack("!H", 1000))
        self._writer.close()

    def _send(self, opcode: int, payload: bytes) -> None:
        mask = os.urandom(4)
        size = len(payload)
        length = bytes([0x80 | size]) if size < 126 else b"\xfe" + struct.pack("!H", size)
        masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))
        self._writer.write(bytes([0x80 | opcode]) + length + mask + masked)

    async def _text(self) -> str:
        while True:
            with _noticed("of a socket"):
                head = await self._reader.readexactly(2)
                text = await self._frame(*head)
            if text is not None:
                return text

    async def _frame(self, first: int, size: int) -> str | None:
        if not first & 0x80 or size & 0x80:
            raise Failure("bad answer", "a frame in pieces, or masked")
        if size == 126:
            (size,) = struct.unpack("!H", await self._reader.readexactly(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", await self._reader.readexactly(8))
        payload = await self._reader.readexactly(size)
        opcode = first & 0x0F
        if opcode == _CLOSE:
            self._closed(payload)
        elif opcode == _PING:
            self._send(_PONG, payload)
        return payload.decode() if opcode == _TEXT else None

    def _closed(self, payload: bytes) -> None:
        self._writer.close()
        code = struct.unpack("!H", payload[:2])[0] if payload else 1005
        if code not in _POLITE:
            raise Failure(f"socket ended {code}", payload[2:].decode())
        raise Ended(code)


async def connect(host: str, port: int) -> Connection:
    """Open a connection, or say in one word why not."""
    try:
        async with asyncio.timeout(SECONDS):
            reader, writer = await asyncio.open_connection(host, port, limit=_HEAD_BYTES)
    except TimeoutError:
        raise Failure("timeout while connecting") from None
    except ConnectionRefusedError as error:
        raise Failure("refused", str(error)) from None
    except OSError as error:
        raise Failure("no connection", str(error)) from None
    return Connection(f"{host}:{port}", reader, writer)


@contextmanager
def _noticed(where: str) -> Iterator[None]:
    """Name what a broken connection looks like."""
    try:
        yield
    except asyncio.IncompleteReadError as error:
        raise Failure(f"end {where}", f"{len(error.partial)} bytes of it") from None
    except asyncio.LimitOverrunError as error:
        raise Failure("bad answer", str(error)) from None
    except OSError as error:
        raise Failure(f"reset {where}", str(error)) from None
