"""uvicorn's WebSocket protocol, with an answer to each bad handshake and an end to each flood."""

from asyncio.transports import BaseTransport
from collections.abc import Callable
from functools import wraps
from typing import Any

import structlog
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from slipway_kit.clock import now
from slipway_kit.http.refusals import Refusals, header_pairs

log = structlog.get_logger()
_BAD_HANDSHAKE = "The WebSocket handshake was refused."
# Pings and pongs in a second, which no client needs, and the fragments of a message.
MAX_CONTROL_FRAMES = 100
MAX_FRAGMENTS = 4096
# A flood is noticed after this much of it; parsing all that is read at once takes half a second.
_PIECE = 4096
_ATTRIBUTES = {
    *("conn", "handshake_complete", "handshake_initiated", "close_sent", "frames", "writable"),
    *("client", "server", "queue", "read_paused"),
}


def supported() -> bool:
    """Tell whether uvicorn has the attributes that are used here."""
    return set(WebSocketsSansIOProtocol.__init__.__code__.co_names) >= _ATTRIBUTES


def name_ipv4(protocol: Any) -> None:
    """Name IPv4 addresses as such; a socket for both families hides them in IPv6 ones."""
    for end in ("client", "server"):
        if address := getattr(protocol, end):
            setattr(protocol, end, (address[0].removeprefix("::ffff:"), address[1]))


def alone(method: Callable[[Any], None]) -> Callable[[Any], None]:
    """Let a failure end its own connection, and no loop over all of them."""

    @wraps(method)
    def guarded(self: Any) -> None:
        try:
            method(self)
        except Exception:
            log.exception("connection failed")
            self.transport.abort()

    return guarded


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """Answers each bad handshake with a problem, and closes its connection.

    A flood of frames that are no message is closed too: uvicorn keeps each fragment, and the pong
    to each ping of a client that reads nothing. Messages are parsed as the app takes them: uvicorn
    parses all that was read at once, which may be 40,000 of one byte.
    """

    clock = staticmethod(now)

    def __init__(self, *args: Any, refusals: Refusals, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._refusals = refusals
        self._reject = self.conn.reject
        # It makes every refusal of websockets and uvicorn.
        self.conn.reject = self._refusal  # type: ignore[method-assign]
        self._second = self._control_frames = 0
        self._unparsed = b""

    def connection_made(self, transport: BaseTransport) -> None:
        """Begin."""
        super().connection_made(transport)
        name_ipv4(self)

    def data_received(self, data: bytes) -> None:
        """Parse data, of which the first is the whole handshake."""
        if self.handshake_initiated:
            self._unparsed += data
            self._parse()
            return
        super().data_received(data)
        if not self.handshake_initiated:
            # websockets could not read it; uvicorn neither answers nor closes.
            self.handshake_complete = self.close_sent = True
            answer = b"".join(self.conn.data_to_send()) or self._refusal(400).serialize()
            self.transport.write(answer)
            self.transport.close()

    def _parse(self) -> None:
        """Parse until there are messages that the app has not taken; uvicorn then stops reading."""
        while self._unparsed and not self.read_paused and not self.transport.is_closing():
            piece, self._unparsed = self._unparsed[:_PIECE], self._unparsed[_PIECE:]
            super().data_received(piece)

    async def receive(self) -> Any:
        """Give the app a message; after the last one go on, once others had their turn."""
        message = await self.queue.get()
        if self.read_paused and self.queue.empty():
            self.loop.call_soon(self._go_on)
        return message

    def _go_on(self) -> None:
        if self.queue.empty():
            self.read_paused = False
            self._parse()
            if not self.read_paused:
                self.transport.resume_reading()

    def handle_ping(self) -> None:
        """Answer, unless earlier answers wait for a client that does not read."""
        if self._allows_control_frame():
            if self.writable.is_set():
                super().handle_ping()
            else:
                self.conn.data_to_send()

    def handle_pong(self, event: Any) -> None:
        """Take one pong."""
        if self._allows_control_frame():
            super().handle_pong(event)

    def handle_cont(self, event: Any) -> None:
        """Take one fragment."""
        if len(self.frames) < MAX_FRAGMENTS:
            super().handle_cont(event)
        else:
            self._fail(1009, "too many fragments")

    def _allows_control_frame(self) -> bool:
        second = int(self.clock())
        if second != self._second:
            self._second, self._control_frames = second, 0
        self._control_frames += 1
        if self._control_frames > MAX_CONTROL_FRAMES:
            self._fail(1008, "too many pings")
        return not self.close_sent

    def _fail(self, code: int, reason: str) -> None:
        if not self.close_sent:
            self.frames = []
            self.conn.fail(code, reason)
            self.handle_parser_exception()

    shutdown = alone(WebSocketsSansIOProtocol.shutdown)

    def _refusal(self, status: int, text: str = "") -> Any:
        answer = self._reject(status, text)
        scope = getattr(self, "scope", {"path": "", "headers": []})
        head, answer.body = self._refusals.answer(scope, status=int(status), detail=_BAD_HANDSHAKE)
        del answer.headers["Content-Length"], answer.headers["Content-Type"]
        for name, value in header_pairs(head):
            answer.headers[name.decode()] = value.decode("latin-1")
        return answer
