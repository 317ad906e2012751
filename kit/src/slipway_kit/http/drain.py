"""Whether this worker is leaving: it answers what it has and asks clients to go elsewhere."""

from starlette.status import WS_1012_SERVICE_RESTART
from starlette.websockets import WebSocket

from slipway_kit.runtime import runtime_of


class Drain:
    """One per app; the worker process begins it, probes and responses look at it."""

    def __init__(self) -> None:
        self.draining = False

    def begin(self) -> None:
        """Fail readiness and close each connection with its next answer, from now on."""
        self.draining = True


async def hang_up_if_leaving(socket: WebSocket) -> bool:
    """Close a socket with 1012 when this worker is leaving, and tell whether that was done.

    Call it after an answer, when the client has no other question open: at the end of the drain
    the server closes what is left with the same code, whatever is under way.
    """
    drain = runtime_of(socket).get(Drain)
    if drain.draining:
        await socket.close(WS_1012_SERVICE_RESTART)
    return drain.draining
