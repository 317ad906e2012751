"""Asks a service at an even pace, whatever it answers, and counts what a strict client sees.

    python -m kit.tests.e2e.load.client http://service:80 --rate 120 --seconds 600

It needs the standard library alone. SIGTERM ends the load; then it reads back what was
acknowledged and prints one line of JSON.
"""

import argparse
import asyncio
import importlib
import json
import random
import signal
import time
from collections import deque
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from kit.tests.e2e.load.tally import Table, percentiles
from kit.tests.e2e.load.traffic import Request, Traffic
from kit.tests.e2e.load.wire import Answer, Connection, Ended, Failure, connect

# Requests at once: an open loop must not take the client down with the service.
_MOST_AT_ONCE = 500
_SCAN_SECONDS = 0.5


class Pool:
    """Kept connections, the one that waited longest first.

    None is used after a pause of `pause` seconds: a server that drains has twice that time to say
    that it closes it.
    """

    def __init__(self, host: str, port: int, *, size: int, pause: float) -> None:
        self._host, self._port, self._size, self._pause = host, port, size, pause
        self._free: deque[Connection] = deque()
        self._open = 0
        self.opened = self.announced = self.silent = self.unused = 0
        self.longest_pause = 0.0

    async def take(self) -> Connection:
        """Return a connection, a new one as long as there are fewer than `size`."""
        while self._free and self._open >= self._size:
            connection = self._free.popleft()
            waited = asyncio.get_running_loop().time() - connection.used_at
            if connection.ended:
                self.silent += 1
            elif waited > self._pause:
                self.unused += 1
            else:
                self.longest_pause = max(self.longest_pause, waited)
                return connection
            self.drop(connection)
        connection = await connect(self._host, self._port)
        self._open += 1
        self.opened += 1
        return connection

    def give(self, connection: Connection, answer: Answer) -> None:
        """Take a connection back after its answer."""
        if answer.closing:
            self.announced += 1
            self.drop(connection)
        elif self._open > self._size:
            self.drop(connection)
        else:
            self._free.append(connection)

    def drop(self, connection: Connection) -> None:
        """Close one."""
        self._open -= 1
        connection.close()

    def close(self) -> None:
        """Close all that wait."""
        while self._free:
            self.drop(self._free.popleft())

    def result(self) -> dict[str, Any]:
        """Tell how connections ended: with an announcement, or `silent`, without one."""
        return {
            "opened": self.opened,
            "announced": self.announced,
            "silent": self.silent,
            "unused": self.unused,
            "longest_pause": round(self.longest_pause, 3),
        }


class Load:
    """One run."""

    def __init__(self, traffic: Traffic, options: argparse.Namespace) -> None:
        address = urlsplit(options.url)
        self._host, self._port = address.hostname or "", address.port or 80
        self._traffic, self._options = traffic, options
        self._pool = Pool(
            self._host, self._port, size=options.connections, pause=options.drain_seconds / 2
        )
        self._busy, self._idle, self._sockets = Table(), Table(), Table()
        self._closed_while_idle = self._ended_by_drain = 0
        self._late: list[float] = []
        self.over = asyncio.Event()

    async def run(self) -> dict[str, Any]:
        """Ask until it is over, then read back; return all that was seen."""
        await self._traffic.prepare(self._ask)
        print(json.dumps({"event": "started"}), flush=True)  # noqa: T201 - it is waited for
        began = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._options.idle):
                tasks.create_task(self._seldom())
            for _ in range(self._options.sockets if self._traffic.socket else 0):
                tasks.create_task(self._scan())
            await self._pace(tasks)
        self._pool.close()
        took = time.monotonic() - began
        return {
            "event": "result",
            "seconds": round(took, 1),
            "rate": round(sum(self._busy.requests.values()) / took, 1),
            "busy": self._busy.result() | {"connections": self._pool.result()},
            "idle": self._idle.result() | {"closed_while_idle": self._closed_while_idle},
            "sockets": self._sockets.result() | {"ended_by_drain": self._ended_by_drain},
            "lateness_ms": percentiles(self._late),
            "writes": await self._traffic.read_back(self._ask),
        }

    async def _pace(self, tasks: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        began, number, running = loop.time(), 0, set[asyncio.Task[None]]()
        while not self.over.is_set() and loop.time() - began < self._options.seconds:
            due = began + number / self._options.rate
            number += 1
            await asyncio.sleep(max(0.0, due - loop.time()))
            if len(running) < _MOST_AT_ONCE:
                task = tasks.create_task(self._one(due))
                running.add(task)
                task.add_done_callback(running.discard)
            else:
                self._busy.failed("none", "", Failure("too many at once"))
        self.over.set()

    async def _one(self, due: float) -> None:
        loop, request = asyncio.get_running_loop(), self._traffic.next()
        late = loop.time() - due
        self._late.append(late)
        what = f"{request.method} {request.target}"
        try:
            connection = await self._pool.take()
            try:
                answer = await _ask(connection, request)
            except Failure:
                self._pool.drop(connection)
                raise
            self._pool.give(connection, answer)
            request.judge(answer)
        except Failure as failure:
            request.settle(None)
            self._busy.failed(request.kind, what, failure, seconds=loop.time() - due)
        else:
            self._busy.answered(request.kind, what, seconds=loop.time() - due, late=late)

    async def _seldom(self) -> None:
        """Ask on one connection with pauses longer than half of a drain."""
        connection: Connection | None = None
        shortest = self._options.drain_seconds / 2
        while not await self._wait(random.uniform(shortest, 3 * shortest)):
            # Two turns of the loop, so that an end that has arrived is known: a request that
            # crosses it on the way still fails.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            if connection is not None and connection.ended:
                self._closed_while_idle += 1
                connection.close()
                connection = None
            began, request = time.monotonic(), self._traffic.read()
            what = f"{request.method} {request.target}"
            try:
                connection = connection or await connect(self._host, self._port)
                answer = await _ask(connection, request)
                request.judge(answer)
            except Failure as failure:
                request.settle(None)
                self._idle.failed(request.kind, what, failure, seconds=time.monotonic() - began)
                answer = None
            else:
                self._idle.answered(request.kind, what, seconds=time.monotonic() - began)
            if connection is not None and (answer is None or answer.closing):
                connection.close()
                connection = None
        if connection is not None:
            connection.close()

    async def _scan(self) -> None:
        """Ask on a socket, and open another one when the service ends it politely."""
        while not self.over.is_set():
            try:
                await self._scan_once()
            except Ended:
                self._ended_by_drain += 1
            except Failure as failure:
                path = self._traffic.socket or ""
                self._sockets.failed("socket", path, failure, seconds=failure.seconds)
                await self._wait(_SCAN_SECONDS)

    async def _scan_once(self) -> None:
        connection = await connect(self._host, self._port)
        socket = await connection.upgrade(self._traffic.socket or "")
        try:
            while not self.over.is_set():
                began, question = time.monotonic(), self._traffic.question()
                try:
                    question.judge(await socket.ask(question.text))
                except Failure as failure:
                    question.settle(None)
                    failure.seconds = time.monotonic() - began
                    raise
                took = time.monotonic() - began
                self._sockets.answered("scan", question.text, seconds=took)
                await socket.rest(_SCAN_SECONDS)
            socket.close()
        finally:
            connection.close()

    async def _wait(self, seconds: float) -> bool:
        """Wait, and tell whether it is over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.over.wait()
        return self.over.is_set()

    async def _ask(self, request: Request) -> Answer:
        """Ask on a connection of its own, before or after the load."""
        connection = await connect(self._host, self._port)
        try:
            answer = await _ask(connection, request)
        finally:
            connection.close()
        request.judge(answer)
        return answer


async def _ask(connection: Connection, request: Request) -> Answer:
    return await connection.ask(
        request.method, request.target, body=request.body, media_type=request.media_type
    )


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--traffic", default="kit.tests.e2e.load.traffic:Health")
    parser.add_argument("--rate", type=float, default=120, help="requests a second")
    parser.add_argument("--seconds", type=float, default=600, help="at most, without SIGTERM")
    parser.add_argument("--connections", type=int, default=40, help="kept and used in turn")
    parser.add_argument("--idle", type=int, default=40, help="connections with long pauses")
    parser.add_argument("--sockets", type=int, default=8, help="WebSockets")
    parser.add_argument("--drain-seconds", type=float, default=4.6, help="of the service")
    chosen = parser.parse_args(arguments)
    if chosen.connections / chosen.rate > chosen.drain_seconds / 2:
        parser.error("so few requests leave connections alone for longer than half a drain")
    return chosen


async def main(chosen: argparse.Namespace) -> None:
    """Run it and print the result."""
    module, _, name = chosen.traffic.partition(":")
    load = Load(getattr(importlib.import_module(module), name)(), chosen)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, load.over.set)
    print(json.dumps(await load.run()), flush=True)  # noqa: T201 - that is its purpose


if __name__ == "__main__":
    asyncio.run(main(options()))
