"""Accepts connections, all that wait when the event loop is busy.

uvloop accepts one a turn of the loop. While a turn takes milliseconds, as under load it does,
clients wait for seconds where nobody sees them. With an idle loop one a turn is right: other
workers listen on the same socket, and the first to wake would take all of a crowd.
"""

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress

import structlog

log = structlog.get_logger()
# In one turn of a busy loop.
_MOST_AT_ONCE = 64
# Without file descriptors or memory, until it tries again.
_PAUSE_SECONDS = 1.0
_SHORT_OF = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Acceptor:
    """Hands each connection of a listening socket, which it owns, to a new protocol.

    It does what uvicorn wants of a server: `close`, and `wait_closed`.
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
        self._loop = asyncio.get_running_loop()
        self._connecting: set[asyncio.Task[object]] = set()
        self._pause: asyncio.TimerHandle | None = None
        listening.setblocking(False)
        self._watch()

    def close(self) -> None:
        """Accept nothing more; what is connected stays."""
        if self._listening.fileno() < 0:
            return
        if self._pause is None:
            self._loop.remove_reader(self._listening)
        else:
            self._pause.cancel()
        self._listening.close()

    async def wait_closed(self) -> None:
        """Wait for connections that are about to begin."""
        if self._connecting:
            await asyncio.wait(self._connecting)

    def _watch(self) -> None:
        self._pause = None
        self._loop.add_reader(self._listening, self._accept)

    def _accept(self) -> None:
        for _ in range(_MOST_AT_ONCE if self._busy() else 1):
            try:
                connection, _ = self._listening.accept()
            except OSError as error:
                # Most often nobody waits any more; a client may also have left already.
                if error.errno in _SHORT_OF:
                    self._rest(error)
                return
            self._connect(connection)

    def _rest(self, error: OSError) -> None:
        log.error("cannot accept connections", error=str(error), again_in=_PAUSE_SECONDS)
        self._loop.remove_reader(self._listening)
        self._pause = self._loop.call_later(_PAUSE_SECONDS, self._watch)

    def _connect(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        task = self._loop.create_task(self._begin(connection))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _begin(self, connection: socket.socket) -> None:
        # A client that has left, or that speaks no TLS, is nobody's error.
        with suppress(OSError):
            await self._loop.connect_accepted_socket(self._protocol, connection, ssl=self._tls)
