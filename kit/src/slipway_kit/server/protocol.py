"""uvicorn's protocols with admission control, limits of a request's head, and a safe close.

A refusal here creates no task and enters no middleware, so a worker keeps its throughput under many
times its capacity. uvicorn limits neither the size nor the time of a head, takes trailers for
headers, resets idle connections on which a request has just arrived, and never answers some bad
WebSocket handshakes. All of it overrides private methods, which `supported` checks.
ADMISSION=middleware moves admission to an ASGI middleware, `off` omits it.
"""

import asyncio
import inspect
import select
from collections.abc import Callable, Sized
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn, cast

from starlette.types import Scope
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from slipway_kit.clock import now
from slipway_kit.http.probes import Drain
from slipway_kit.http.refusals import Refusals
from slipway_kit.metrics.instruments import Counter
from slipway_kit.overload.admission import Admission
from slipway_kit.overload.route_shedding import RouteShedding
from slipway_kit.server.websocket import BoundedWebSocket, alone, name_ipv4
from slipway_kit.server.websocket import supported as websocket_supported

TRAILERS = Counter("http_trailers_dropped", "Fields after a body, which are no headers.")
# The limits of a head: request line and headers.
MAX_HEAD_BYTES, HEAD_SECONDS = 2**16, 10.0
_TOO_LARGE = 431, f"The head of the request is larger than {MAX_HEAD_BYTES} bytes."
_TOO_SLOW = 408, f"The head of the request took longer than {HEAD_SECONDS:g} s."
_NOT_HTTP = 400, "The request is not valid HTTP."
_METHODS = {
    "_start_asgi_task": ["self", "cycle", "app"],
    "data_received": ["self", "data"],
    "on_body": ["self", "body"],
    "on_headers_complete": ["self"],
    "on_message_begin": ["self"],
    "on_response_complete": ["self"],
    "send_400_response": ["self", "msg"],
    "shutdown": ["self"],
    "timeout_keep_alive_handler": ["self"],
}
_CYCLE_ATTRIBUTES = {
    *("scope", "keep_alive", "waiting_for_100_continue", "disconnected"),
    *("response_started", "response_complete", "on_response"),
}
_FLOW_ATTRIBUTES = {"_transport", "read_paused", "write_paused"}


@dataclass(frozen=True)
class HttpProtocol:
    """uvicorn's `http` option: the name of a protocol, or its factory."""

    factory: str | Callable[..., Any]


def supported() -> bool:
    """Tell whether uvicorn has the private methods and attributes that are used here."""
    found = vars(HttpToolsProtocol)
    # The attributes that its constructor sets.
    attributes = set(RequestResponseCycle.__init__.__code__.co_names)
    known = attributes >= _CYCLE_ATTRIBUTES and websocket_supported()
    flow = set(FlowControl.__init__.__code__.co_names)
    return (known and flow >= _FLOW_ATTRIBUTES) and all(
        name in found and list(inspect.signature(found[name]).parameters) == parameters
        for name, parameters in _METHODS.items()
    )


class _Trailers(list[tuple[bytes, bytes]]):
    """Counts trailers in place of the list of headers, and keeps none."""

    def append(self, _: tuple[bytes, bytes]) -> None:
        TRAILERS.inc()


_DROPPED = _Trailers()


class _Flow(FlowControl):
    """Reads nothing from a client that does not read, nor while a pipelined request waits.

    uvicorn would read on after each answer, and answers refused requests without waiting.
    """

    def __init__(self, transport: asyncio.Transport, waiting: Sized) -> None:
        super().__init__(transport)
        self._waiting = waiting

    def pause_writing(self) -> None:
        super().pause_writing()
        self.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.resume_reading()

    def resume_reading(self) -> None:
        held = self.write_paused or self._waiting or self._transport.is_closing()
        if self.read_paused and not held:
            super().resume_reading()


class BoundedProtocol(HttpToolsProtocol):
    """Closes connections whose request head is too large or too slow.

    An idle connection on which a request has arrived unread is answered before it is closed.
    """

    clock = staticmethod(now)

    def __init__(self, *args: Any, refusals: Refusals, drain: Drain, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._refusals, self._drain = refusals, drain
        if self.ws_protocol_class is not None:
            self.ws_protocol_class = partial(  # type: ignore[assignment]
                BoundedWebSocket, refusals=refusals
            )
        # Since when a head is incomplete; a new connection begins with one.
        self._head_since: float | None = self.clock()
        self._prefix = self.root_path.encode()
        # Without a byte of a body: of a head, of trailers, of what frames chunks.
        self._head_bytes = self._piece = 0
        self._refusal = _NOT_HTTP

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin."""
        super().connection_made(transport)
        self.flow = _Flow(transport, self.pipeline)
        name_ipv4(self)

    def data_received(self, data: bytes) -> None:
        """Parse data, and refuse a head over the limit."""
        self._piece = len(data)
        self._head_bytes += self._piece
        super().data_received(data)
        if self._head_bytes > MAX_HEAD_BYTES:
            self._close_with(*_TOO_LARGE)

    def on_message_begin(self) -> None:
        """Start the clock of a head."""
        super().on_message_begin()
        self._head_since = self.clock()
        # After another request in the same piece of data.
        self._head_bytes = self._head_bytes or 1

    def on_headers_complete(self) -> None:
        """Stop it; what follows are trailers, which are no headers."""
        # The head's own length costs time, and a small piece of data holds no large head.
        if self._head_bytes + self._piece > MAX_HEAD_BYTES < self._head_length():
            self._refuse_head(_TOO_LARGE)
        self._head_since = None
        self._head_bytes = 0
        upgrades = self.parser.should_upgrade() and self._should_upgrade()
        if upgrades and (self._busy() or self.flow.write_paused):
            self._refuse_head(_NOT_HTTP)
        if self._prefix and self.url.startswith(self._prefix):
            self._strip_prefix()
        super().on_headers_complete()
        if not upgrades:
            self.headers = _DROPPED

    def _strip_prefix(self) -> None:
        """Do what a proxy in front left undone: uvicorn writes the prefix before every path."""
        rest = self.url[len(self._prefix) :]
        if rest[:1] == b"/":
            self.url = rest
        elif rest[:1] in {b"", b"?"}:
            self.url = b"/" + rest

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body."""
        if self._head_since is None:
            self._head_bytes = 0
        super().on_body(body)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request, or what a callback refused."""
        del msg
        self._close_with(*self._refusal)

    @alone
    def end_if_slow(self) -> None:
        """Close the connection when its head is too slow, or when it sends nothing."""
        now = self.clock()
        if self._head_since is None:
            # After a head there is a cycle.
            if self.cycle.response_complete and self.timeout_keep_alive_task is None:
                # The rest of an unread body is still to come; it has the time of a head.
                self._head_since = now
            return
        waited = now - self._head_since
        if self._head_bytes and waited > HEAD_SECONDS:
            self._close_with(*_TOO_SLOW)
        elif not self._head_bytes and waited > self.timeout_keep_alive:
            self.transport.close()

    @alone
    def shutdown(self) -> None:
        """Close with the answer to an unread request, or at once."""
        # While the worker drains, each answer closes its connection.
        if not self._has_unread_request():
            super().shutdown()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection, unless a request has just arrived."""
        if not self._has_unread_request():
            super().timeout_keep_alive_handler()

    def _head_length(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _refuse_head(self, refusal: tuple[int, str]) -> NoReturn:
        """End the parser, which then calls `send_400_response`."""
        self._refusal = refusal
        raise ValueError(refusal)

    def _has_unread_request(self) -> bool:
        connection = self.transport.get_extra_info("socket")
        if connection is None or self._busy() or self.transport.is_closing():
            return False
        unread = select.poll()
        unread.register(connection.fileno(), select.POLLIN)
        return bool(unread.poll(0))

    def _busy(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def _close_with(self, status: int, detail: str) -> None:
        if self.transport.is_closing():
            return
        # Not amid another answer.
        if not self._busy():
            self._write(status, detail, {"path": "", "headers": [], "method": "GET"}, close=True)
        self.transport.close()

    def _write(self, status: int, detail: str, scope: Scope, *, close: bool) -> None:
        head, body = self._refusals.answer(scope, status=status, detail=detail)
        own = [b"%b: %b\r\n" % header for header in self.server_state.default_headers]
        end = b"connection: close\r\n\r\n" if close else b"\r\n"
        sent = b"" if scope["method"] == "HEAD" else body
        self.transport.write(b"".join((STATUS_LINE[status], *own, head, end, sent)))


class AdmittingProtocol(BoundedProtocol):
    """Admits requests through `admission`; those for the paths of `always` start at once."""

    def __init__(
        self,
        *args: Any,
        admission: Admission,
        shedding: RouteShedding,
        always: frozenset[str],
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._admission, self._shedding, self._always = admission, shedding, always

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        scope = cast("Scope", cycle.scope)
        if scope["path"] in self._always:
            super()._start_asgi_task(cycle, app)
        elif queue_limit := self._shedding.refusing_limit(scope):
            queue_limit.count_refusal()
            self._refuse(cycle)
        elif self._admission.start_now():
            super()._start_asgi_task(cycle, app)
        elif self._admission.enqueue(partial(self._start_queued, cycle, app)):
            scope["arrived"] = self._admission.clock()
        else:
            self._refuse(cycle)

    def _start_queued(self, cycle: RequestResponseCycle, app: Any) -> None:
        if not cycle.disconnected:
            super()._start_asgi_task(cycle, app)

    def _refuse(self, cycle: RequestResponseCycle) -> None:
        # After a refused "Expect: 100-continue" the client may send its body or the next request,
        # and the two could not be told apart.
        close = self._drain.draining or not cycle.keep_alive or cycle.waiting_for_100_continue
        scope = cast("Scope", cycle.scope)
        self._write(*self._refusals.OVERLOADED, scope, close=close)
        cycle.response_started = cycle.response_complete = True
        if close:
            self.transport.close()
        if self.pipeline:
            # Not recursively: thousands of requests may be pipelined.
            self.loop.call_soon(cycle.on_response)
        else:
            cycle.on_response()
