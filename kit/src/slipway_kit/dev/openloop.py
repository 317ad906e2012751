"""A client that sends each request when it is due, however long the answers take.

`python -m slipway_kit.dev.openloop` reads a plan from standard input and writes what became of each
request to standard output, both as JSON. How late it was itself is part of that: a generator that
is late measures its own queue.
"""

import asyncio
import json
import random
import re
import ssl
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import cast

import uvloop  # uvicorn brings it

# What is not answered by then never is.
GIVE_UP_SECONDS = 5.0
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_LEAVES = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
_STATUS = slice(9, 12)
# How often the clock is read while requests are sent.
_BURST = 16


@dataclass(frozen=True)
class Stream:
    """Requests for one path, at random moments from `begin` to `end`; seconds, and a second."""

    path: str
    rate: float
    begin: float
    end: float
    # Of a POST; without a body it is a GET.
    body_bytes: int = 0


@dataclass(frozen=True)
class Plan:
    """Who is asked for what. With `closed`, so many connections ask again at once instead.

    With `tls` it is HTTPS, whatever certificate the server shows.
    """

    port: int
    streams: list[Stream]
    seed: int = 0
    most_connections: int = 3000
    closed: int = 0
    tls: bool = False

    def due(self) -> list[tuple[float, int]]:
        """Return when each request is due, in order, with the number of its stream."""
        chance = random.Random(self.seed)  # noqa: S311 (it decides about load)
        found = [
            (moment, number)
            for number, stream in enumerate(self.streams)
            for moment in _moments(stream, chance)
        ]
        return sorted(found)


@dataclass
class Result:
    """What became of requests; times in seconds, status 0 is no answer."""

    # Of each request: when it was due, how long after that it was answered, status and stream.
    answers: list[tuple[float, float, int, int]] = field(default_factory=list)
    lateness: list[float] = field(default_factory=list)


def _moments(stream: Stream, chance: random.Random) -> Iterator[float]:
    moment = stream.begin + chance.expovariate(stream.rate)
    while moment < stream.end:
        yield moment
        moment += chance.expovariate(stream.rate)


class Load:
    """Connections, and what came of them."""

    def __init__(self, plan: Plan) -> None:
        """Have nothing open yet."""
        self.plan, self.result = plan, Result()
        self.idle: list[Connection] = []
        self.open = 0
        self.began = 0.0
        self._requests = [_request(stream) for stream in plan.streams]
        self._tls = _whatever_certificate() if plan.tls else None
        self._connecting: set[asyncio.Task[None]] = set()
        self.on_answer = self._back

    def send(self, due: float, stream: int) -> None:
        """Ask on a connection that is free, else on a new one."""
        while self.idle:
            connection = self.idle.pop()
            if connection.ask(self._requests[stream], due, stream):
                return
        if self.open >= self.plan.most_connections:
            self.note(due, 0, stream)
            return
        self.open += 1
        task = asyncio.get_running_loop().create_task(self._on_new(due, stream))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _on_new(self, due: float, stream: int) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, made = await loop.create_connection(
                lambda: Connection(self), "127.0.0.1", self.plan.port, ssl=self._tls
            )
        except OSError:
            self.open -= 1
            self.note(due, 0, stream)
            return
        if not made.ask(self._requests[stream], due, stream):
            self.note(due, 0, stream)

    def note(self, due: float, status: int, stream: int) -> None:
        """Keep what became of a request."""
        now = time.perf_counter() - self.began
        self.result.answers.append((round(due, 5), round(now - due, 5), status, stream))

    def _back(self, connection: "Connection") -> None:
        self.idle.append(connection)

    async def run(self) -> Result:
        """Send all of it, and wait for what is still to come."""
        self.began = time.perf_counter()
        if self.plan.closed:
            await self._run_closed()
        else:
            await self._run_open()
        give_up = time.perf_counter() + GIVE_UP_SECONDS
        while len(self.idle) < self.open and time.perf_counter() < give_up:  # noqa: ASYNC110 (any may be the last)
            await asyncio.sleep(0.01)
        for connection in list(Connection.asking):
            connection.give_up()
        return self.result

    async def _run_open(self) -> None:
        due = self.plan.due()
        sent = 0
        while sent < len(due):
            now = time.perf_counter() - self.began
            for moment, stream in due[sent : sent + _BURST]:
                if moment > now:
                    await asyncio.sleep(moment - now)
                    break
                self.result.lateness.append(round(now - moment, 6))
                self.send(moment, stream)
                sent += 1

    async def _run_closed(self) -> None:
        end = max(stream.end for stream in self.plan.streams)
        turn = 0

        def again(connection: Connection) -> None:
            nonlocal turn
            now = time.perf_counter() - self.began
            if now > end:
                self.idle.append(connection)
                return
            turn = (turn + 1) % len(self._requests)
            connection.ask(self._requests[turn], now, turn)

        self.on_answer = again
        for number in range(self.plan.closed):
            self.send(0, number % len(self._requests))
        await asyncio.sleep(end)


class Connection(asyncio.Protocol):
    """One connection, which asks for one thing at a time."""

    asking: "set[Connection]" = set()  # noqa: RUF012 (all of one process)

    def __init__(self, load: Load) -> None:
        """Belong to a load."""
        self._load = load
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._asked: tuple[float, int] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)

    def ask(self, request: bytes, due: float, stream: int) -> bool:
        """Send a request, unless the connection is gone."""
        if self._transport is None or self._transport.is_closing():
            return False
        self._asked = (due, stream)
        self.asking.add(self)
        self._transport.write(request)
        return True

    def data_received(self, data: bytes) -> None:
        """Take what comes, and go on when it is a whole answer."""
        self._buffer += data
        head = self._buffer.find(b"\r\n\r\n")
        length = _LENGTH.search(self._buffer, 0, head + 2) if head >= 0 else None
        if length is None or len(self._buffer) < head + 4 + int(length[1]):
            return
        status = int(self._buffer[_STATUS])
        leaves = _LEAVES.search(self._buffer, 0, head + 2)
        self._buffer = b""
        self._end(status)
        if leaves and self._transport is not None:
            self._transport.close()
        else:
            self._load.on_answer(self)

    def connection_lost(self, error: Exception | None) -> None:
        """Note what was asked in vain."""
        del error
        self._load.open -= 1
        self._transport = None
        if self in self._load.idle:
            self._load.idle.remove(self)
        self._end(0)

    def give_up(self) -> None:
        """Wait no longer."""
        self._end(0)

    def _end(self, status: int) -> None:
        if self._asked is not None:
            due, stream = self._asked
            self._asked = None
            self.asking.discard(self)
            self._load.note(due, status, stream)


def _request(stream: Stream) -> bytes:
    method = "POST" if stream.body_bytes else "GET"
    head = f"{method} {stream.path} HTTP/1.1\r\nHost: bench\r\nAccept: application/json\r\n"
    if stream.body_bytes:
        head += f"Content-Type: application/json\r\nContent-Length: {stream.body_bytes}\r\n"
    return f"{head}\r\n".encode() + _text(stream.body_bytes)


def _text(size: int) -> bytes:
    """Return a JSON text of so many bytes, its quotes included."""
    return b'"%b"' % (b"x" * (size - 2)) if size else b""


def _whatever_certificate() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def main() -> None:
    """Do what the plan says."""
    given = json.load(sys.stdin)
    streams = [Stream(**each) for each in given.pop("streams")]
    result = uvloop.run(Load(Plan(streams=streams, **given)).run())
    json.dump(asdict(result), sys.stdout)


if __name__ == "__main__":
    main()
