"""uvicorn's HTTP protocol, which asks before it starts a request and refuses it cheaply.

A refusal in the protocol makes no task and enters no middleware, which is what lets a worker go on
serving while many times as many requests come in as it can take. Here too are the bounds of a
request's head, of which uvicorn has none, and a look at idle connections before they are closed.
It has no public way for any of them: `supported` tells whether its inner parts are those that this
was written for. ADMISSION says `middleware` to ask through ASGI alone, and `off` not to ask.
"""

import inspect
import select
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from slipway_kit.clock import now
from slipway_kit.http.drain import Drain
from slipway_kit.http.refusals import Refusals
from slipway_kit.overload.admission import Admission
from slipway_kit.overload.route_shedding import RouteShedding

# What a request may send before its body, and how long it may take for that.
MAX_HEAD_BYTES = 2**16
HEAD_SECONDS = 10.0
_TOO_LARGE = 431, f"The head of the request is larger than {MAX_HEAD_BYTES} bytes."
_TOO_SLOW = 408, f"The head of the request took longer than {HEAD_SECONDS:g} s."
_METHODS = {
    "_start_asgi_task": ["self", "cycle", "app"],
    "data_received": ["self", "data"],
    "on_headers_complete": ["self"],
    "on_message_begin": ["self"],
    "on_response_complete": ["self"],
    "shutdown": ["self"],
    "timeout_keep_alive_handler": ["self"],
}
_OF_A_CYCLE = {
    *("scope", "keep_alive", "waiting_for_100_continue", "disconnected"),
    *("response_started", "response_complete", "on_response"),
}


_OVERLOADED = STATUS_LINE[Refusals.OVERLOADED[0]]


@dataclass(frozen=True)
class HttpProtocol:
    """What uvicorn is to speak HTTP with: a name that it knows, or what makes a protocol."""

    factory: str | Callable[..., Any]


def supported() -> bool:
    """Tell whether uvicorn serves requests in the way that is changed here."""
    # What it sets on itself, which nothing else names.
    of_a_cycle = set(RequestResponseCycle.__init__.__code__.co_names)
    return of_a_cycle >= _OF_A_CYCLE and all(
        list(inspect.signature(getattr(HttpToolsProtocol, name, _none)).parameters) == parameters
        for name, parameters in _METHODS.items()
    )


class BoundedProtocol(HttpToolsProtocol):
    """Ends connections whose request heads are too large or take too long, and no others.

    One that was idle until now may have asked for something since the loop looked last: to close it
    then would reset it.
    """

    clock = staticmethod(now)

    def __init__(self, *args: Any, refusals: Refusals, drain: Drain, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._refusals, self._drain = refusals, drain
        # Since when a head is incomplete, a new connection's from the start.
        self._head_since: float | None = self.clock()
        self._head_bytes = 0

    def data_received(self, data: bytes) -> None:
        """Read what came; a head that is still incomplete may not be too large."""
        super().data_received(data)
        if self._head_since is not None:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._end(*_TOO_LARGE)

    def on_message_begin(self) -> None:
        """Begin a head."""
        super().on_message_begin()
        self._head_since = self.clock()

    def on_headers_complete(self) -> None:
        """End it."""
        self._head_since = None
        self._head_bytes = 0
        super().on_headers_complete()

    def end_if_slow(self) -> None:
        """End the connection when its head takes too long, or when it says nothing any more."""
        now = self.clock()
        if self._head_since is None:
            # There was a head, so there is a cycle.
            if self.cycle.response_complete and self.timeout_keep_alive_task is None:
                # The rest of a body that nobody reads is still to come, or never does.
                self._head_since = now
            return
        waited = now - self._head_since
        if self._head_bytes and waited > HEAD_SECONDS:
            self._end(*_TOO_SLOW)
        elif not self._head_bytes and waited > self.timeout_keep_alive:
            self.transport.close()

    def shutdown(self) -> None:
        """Close with the answer to what was asked, or at once."""
        # Who drains closes with each answer.
        if not self._has_just_asked():
            super().shutdown()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that was idle for long."""
        if not self._has_just_asked():
            super().timeout_keep_alive_handler()

    def _has_just_asked(self) -> bool:
        line = self.transport.get_extra_info("socket")
        cycle: RequestResponseCycle | None = self.cycle
        busy = cycle is not None and not cycle.response_complete
        if line is None or busy or self.transport.is_closing():
            return False
        unread = select.poll()
        unread.register(line.fileno(), select.POLLIN)
        return bool(unread.poll(0))

    def _end(self, status: int, detail: str) -> None:
        if self.transport.is_closing():
            return
        # An answer that is under way would be torn; before the first head there is none.
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.response_complete:
            self._write(status, detail, {"path": "", "headers": [], "method": "GET"}, leaves=True)
        self.transport.close()

    def _write(self, status: int, detail: str, scope: Scope, *, leaves: bool) -> None:
        headers, body = self._refusals.answer(scope, status=status, detail=detail)
        if leaves:
            headers.append((b"connection", b"close"))
        lines = [STATUS_LINE[status]]
        for name, value in (*self.server_state.default_headers, *headers):
            lines += (name, b": ", value, b"\r\n")
        lines.append(b"\r\n")
        if scope["method"] != "HEAD":
            lines.append(body)
        self.transport.write(b"".join(lines))


class AdmittingProtocol(BoundedProtocol):
    """Starts each request when `admission` lets it in; `always` are paths that never wait."""

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
        elif self._admission.enqueue(partial(self._start_later, cycle, app)):
            scope["arrived"] = self._admission.clock()
        else:
            self._refuse(cycle)

    def _start_later(self, cycle: RequestResponseCycle, app: Any) -> None:
        # Who has gone meanwhile needs no answer.
        if not cycle.disconnected:
            super()._start_asgi_task(cycle, app)

    def _refuse(self, cycle: RequestResponseCycle) -> None:
        # A client that waits for leave to send its body may send it or not: nobody could tell
        # what comes next.
        leaves = self._drain.draining or not cycle.keep_alive or cycle.waiting_for_100_continue
        scope = cast("Scope", cycle.scope)
        usual = None if leaves else self._refusals.usual(scope)
        if usual is None:
            self._write(*self._refusals.OVERLOADED, scope, leaves=leaves)
        else:
            own = [b"%b: %b\r\n" % header for header in self.server_state.default_headers]
            self.transport.write(b"".join((_OVERLOADED, *own, usual)))
        cycle.response_started = cycle.response_complete = True
        if leaves:
            self.transport.close()
        if self.pipeline:
            # One after another, not one inside another: there may be thousands.
            self.loop.call_soon(cycle.on_response)
        else:
            cycle.on_response()


def _none() -> None:
    """Stand for a method that is not there."""
