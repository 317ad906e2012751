"""The worker's side of a process that computes: it starts it, talks to it and sees it end."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from typing import Protocol

from slipway_kit.pool_child import HEAD, READY

# Runs in the child before anything of ours is imported. The worker's own path, which gunicorn may
# have changed, finds the same modules.
_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]);"
    " from slipway_kit.pool_child import serve; serve(int(sys.argv[2]), int(sys.argv[3]))"
)
# A process that was told to leave, or killed, is gone after so long.
_LEAVE_SECONDS = 1.0
_LOOK_SECONDS = 0.005


class Computer(Protocol):
    """What answers one job at a time."""

    @property
    def lives(self) -> bool:
        """Whether it can take a job."""

    async def begin(self) -> None:
        """Return once it can take a job; raise `OSError` or `EOFError` when it never can."""

    async def run(self, job: bytes) -> bytes:
        """Return the answer to `job`; raise `OSError` or `EOFError` when it ended meanwhile."""

    def leave(self) -> None:
        """Ask it to end; it must be idle."""

    def kill(self) -> None:
        """End it whatever it does."""

    async def ended(self) -> None:
        """Return once nothing is left of it."""


class Child:
    """A process with a socket to it, and a pickled function that it may call before its jobs.

    It must be made in the main thread: the kernel ends the process with the thread that made it.
    """

    def __init__(self, prepare: bytes) -> None:
        self._prepare, self._begun = prepare, False
        self._line, theirs = socket.socketpair()
        self._line.setblocking(False)
        with theirs:
            try:
                self._process = _popen(theirs.fileno())
            except BaseException:
                self._line.close()
                raise

    @property
    def lives(self) -> bool:
        """Whether it can take a job."""
        return self._process.poll() is None

    async def begin(self) -> None:
        """Return once it can take a job; raise `OSError` or `EOFError` when it never can."""
        if not self._begun and await self.run(self._prepare) != READY:
            raise EOFError
        self._begun = True

    async def run(self, job: bytes) -> bytes:
        """Return the answer to `job`; raise `OSError` or `EOFError` when it ended meanwhile."""
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(self._line, HEAD.pack(len(job)))
        await loop.sock_sendall(self._line, job)
        [length] = HEAD.unpack(await self._exactly(HEAD.size))
        return bytes(await self._exactly(length))

    async def _exactly(self, length: int) -> bytearray:
        loop, data = asyncio.get_running_loop(), bytearray(length)
        rest = memoryview(data)
        while rest:
            count = await loop.sock_recv_into(self._line, rest)
            if not count:
                raise EOFError
            rest = rest[count:]
        return data

    def leave(self) -> None:
        """Ask it to end; it must be idle."""
        self._line.close()

    def kill(self) -> None:
        """End it whatever it does; who waits for its answer sees the socket's end."""
        self._process.kill()

    async def ended(self) -> None:
        """Return once nothing is left of it."""
        while self.lives:  # noqa: ASYNC110 (what ends is a process, which sets no event)
            await asyncio.sleep(_LOOK_SECONDS)
        # Who waits for its answer sees the end of the line first: of one that was closed here the
        # event loop would tell them nothing.
        await asyncio.sleep(_LOOK_SECONDS)
        self._line.close()


async def ended(child: Computer) -> None:
    """Wait until a process that was told to leave has left, or kill it."""
    try:
        async with asyncio.timeout(_LEAVE_SECONDS):
            await child.ended()
    except TimeoutError:
        child.kill()
        await child.ended()


def _popen(descriptor: int) -> "subprocess.Popen[bytes]":
    # Its metrics would be written to files that nobody removes.
    environment = {k: v for k, v in os.environ.items() if k != "PROMETHEUS_MULTIPROC_DIR"}
    path = json.dumps(sys.path)
    return subprocess.Popen(  # noqa: S603 (our own program)
        [sys.executable, "-c", _PROGRAM, path, str(descriptor), str(os.getpid())],
        stdin=subprocess.DEVNULL,
        env=environment,
        pass_fds=[descriptor],
        # Signals to the service's group, such as Ctrl-C, are for the worker: it ends its children.
        start_new_session=True,
    )
