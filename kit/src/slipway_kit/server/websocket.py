"""uvicorn's WebSocket protocol, with an answer to each bad handshake."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import structlog
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from slipway_kit.http.refusals import Refusals, header_pairs

log = structlog.get_logger()
_BAD_HANDSHAKE = "The WebSocket handshake was refused."
_ATTRIBUTES = {"conn", "handshake_complete", "handshake_initiated", "close_sent"}


def supported() -> bool:
    """Tell whether uvicorn has the attributes that are used here."""
    return set(WebSocketsSansIOProtocol.__init__.__code__.co_names) >= _ATTRIBUTES


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
    """Answers each bad handshake with a problem, and closes its connection."""

    def __init__(self, *args: Any, refusals: Refusals, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._refusals = refusals
        self._reject = self.conn.reject
        # It makes every refusal of websockets and uvicorn.
        self.conn.reject = self._refusal  # type: ignore[method-assign]

    def data_received(self, data: bytes) -> None:
        """Parse data, of which the first is the whole handshake."""
        super().data_received(data)
        if not self.handshake_initiated:
            # websockets could not read it; uvicorn neither answers nor closes.
            self.handshake_complete = self.close_sent = True
            answer = b"".join(self.conn.data_to_send()) or self._refusal(400).serialize()
            self.transport.write(answer)
            self.transport.close()

    shutdown = alone(WebSocketsSansIOProtocol.shutdown)

    def _refusal(self, status: int, text: str = "") -> Any:
        answer = self._reject(status, text)
        scope = getattr(self, "scope", {"path": "", "headers": []})
        head, answer.body = self._refusals.answer(scope, status=int(status), detail=_BAD_HANDSHAKE)
        del answer.headers["Content-Length"], answer.headers["Content-Type"]
        for name, value in header_pairs(head):
            answer.headers[name.decode()] = value.decode("latin-1")
        return answer
