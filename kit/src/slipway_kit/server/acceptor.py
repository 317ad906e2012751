"""Accepts the whole backlog of connections in one iteration while the event loop is busy.

uvloop accepts one connection per iteration. Under load an iteration takes milliseconds, and clients
would wait in the kernel's backlog for seconds. An idle loop still accepts one: the other workers
listen on the same socket, and a burst should spread over all of them.
"""

import asyncio
import errno
import os
import socket
import ssl
import sys
from collections.abc import Callable
from contextlib import suppress

import structlog

from slipway_kit.system import max_descriptors

log = structlog.get_logger()
# Connections per iteration of a busy loop.
_MAX_PER_ITERATION = 64
# Before it retries without file descriptors or memory.
_PAUSE_SECONDS = 1.0
# A client that makes no room for its answer, or is gone, loses the connection; on Linux.
UNREAD_SECONDS = 60
_UNREAD = getattr(socket, "TCP_USER_TIMEOUT", None)
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Acceptor:
    """Gives each connection of a listening socket, which it owns, to a new protocol.

    To uvicorn it is a server: it has `close` and `wait_closed`.
    """

    def __init__(
        self,
        listening: socket.socket,
        protocol: Callable[[], asyncio.Protocol],
        *,
        busy: Callable[[], bool],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._listening, self._protocol, self._tls = listening, protocol, tls
        self._busy = busy
        most = max_descriptors() or sys.maxsize
        # The last eighth is for the database, other services and processes.
        self._end = most - most // 8
        self._loop = asyncio.get_running_loop()
        self._connecting: set[asyncio.Task[object]] = set()
        self._pause: asyncio.TimerHandle | None = None
        listening.setblocking(False)
        if _UNREAD is not None and listening.family != socket.AF_UNIX:
            # Each connection inherits it.
            listening.setsockopt(socket.IPPROTO_TCP, _UNREAD, 1000 * UNREAD_SECONDS)
        self._watch()

    def close(self) -> None:
        """Stop accepting; open connections stay."""
        if self._listening.fileno() < 0:
            return
        if self._pause is None:
            self._loop.remove_reader(self._listening)
        else:
            self._pause.cancel()
        self._listening.close()

    async def wait_closed(self) -> None:
        """Wait for connections that are being set up."""
        if self._connecting:
            await asyncio.wait(self._connecting)

    def _watch(self) -> None:
        self._pause = None
        self._loop.add_reader(self._listening, self._accept)

    def _accept(self) -> None:
        for _ in range(_MAX_PER_ITERATION if self._busy() else 1):
            try:
                self._require_descriptor()
                connection, _ = self._listening.accept()
            except OSError as error:
                # The backlog is empty, or a client has left already.
                if error.errno in _EXHAUSTED:
                    self._pause_accepting(error)
                return
            connection.setblocking(False)
            task = self._loop.create_task(self._begin(connection))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    def _require_descriptor(self) -> None:
        """Raise `OSError` when the next descriptor, the lowest free one, is kept for others."""
        following = os.dup(self._listening.fileno())
        os.close(following)
        if following >= self._end:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    def _pause_accepting(self, error: OSError) -> None:
        log.error("cannot accept connections", error=str(error), retry_seconds=_PAUSE_SECONDS)
        self._loop.remove_reader(self._listening)
        self._pause = self._loop.call_later(_PAUSE_SECONDS, self._watch)

    async def _begin(self, connection: socket.socket) -> None:
        # The client has left, or its TLS handshake failed.
        with suppress(OSError):
            await self._loop.connect_accepted_socket(self._protocol, connection, ssl=self._tls)
