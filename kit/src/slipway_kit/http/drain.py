"""Whether this worker drains: it finishes its requests and sends clients to other workers."""

from starlette.status import WS_1012_SERVICE_RESTART
from starlette.websockets import WebSocket

from slipway_kit.runtime import runtime_of


class Drain:
    """The drain of one app, which the worker process begins."""

    def __init__(self) -> None:
        self.draining = False

    def begin(self) -> None:
        """From now on readiness fails, and each answer closes its connection."""
        self.draining = True


async def close_if_draining(socket: WebSocket) -> bool:
    """Close a WebSocket with 1012 if this worker drains, and return whether it did.

    Call it when no message of the client is unanswered: at the end of the drain the server closes
    every WebSocket with the same code, messages in flight or not.
    """
    drain = runtime_of(socket).get(Drain)
    if drain.draining:
        await socket.close(WS_1012_SERVICE_RESTART)
    return drain.draining
