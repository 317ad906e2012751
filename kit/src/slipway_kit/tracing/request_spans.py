"""The server span of each request, with the attributes of OpenTelemetry's HTTP convention.

Whether a trace is recorded is decided before anything is made, by the rule of the SDK's samplers.
A request that is not recorded has a placeholder, which hands the decision on to what it calls.
FastAPI's own telemetry makes the same spans in several times the CPU.
"""

import time
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlencode, urlsplit

from opentelemetry import context, propagate, trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    TracerProvider,
)
from opentelemetry.util.types import AttributeValue
from starlette.types import Scope
from starlette.websockets import WebSocketDisconnect

from slipway_kit.trace_context import TRACE_CONTEXT
from slipway_kit.tracing.origin import Origin

Headers = Mapping[bytes, bytes]
Attributes = dict[str, AttributeValue]

# Instrumentation scope: who makes these spans.
SCOPE_NAME = "slipway_kit.http"
_SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"
# The methods that the convention knows.
_METHODS = frozenset(
    ("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE")
)
# The convention's list of what a query must not show.
_SECRETS = (
    *("X-Amz-Signature", "X-Amz-Credential", "X-Amz-Security-Token"),
    *("X-Goog-Signature", "sig"),
)
_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}
_NORMAL_CLOSE = (1000, 1001)
_LIBRARY = "slipway_kit."
_NOWHERE = Context()
_TRACE_CONTEXT = (b"traceparent", b"tracestate")


class Sampling:
    """Which traces are recorded, as the SDK's sampler of that name decides."""

    def __init__(self, sampler: str, share: float) -> None:
        self._follows_parent = sampler.startswith("parentbased_")
        kind = sampler.removeprefix("parentbased_")
        share = {"always_on": 1.0, "always_off": 0.0}.get(kind, share)
        self._bound = TraceIdRatioBased.get_bound_for_rate(share)

    def records(self, low_bits: int, parent: SpanContext | None) -> bool:
        """Tell whether a span is recorded, from the lower 64 bits of its trace's id."""
        if parent is not None and self._follows_parent:
            return parent.trace_flags.sampled
        return low_bits < self._bound


class RequestSpan(Protocol):
    """The span of a request under way; it is the current one until it is closed."""

    # Trace and span in hexadecimal digits.
    ids: tuple[str, str]
    recorded: bool

    def answered(self) -> None:
        """Note that the answer has been sent to its end; background tasks may follow."""

    def close(
        self, scope: Scope, *, route: str | None, status: int | None, error: BaseException | None
    ) -> None:
        """End the span; `error` is what no answer could make good."""


class Placeholder(NonRecordingSpan):
    """The span of a request that is not recorded; its ids are for its calls and log lines."""

    recorded = False

    def __init__(self, ids: tuple[str, str], base: Context, parent: SpanContext | None) -> None:
        self.ids, self._parent = ids, parent
        self._made: SpanContext | None = None
        self.token = context.attach(trace.set_span_in_context(self, base))

    def get_span_context(self) -> SpanContext:
        """Return the ids; few requests ask for them, so they are put together when one does."""
        if self._made is None:
            self._made = _own(self.ids, self._parent, TraceFlags.DEFAULT)
        return self._made

    def answered(self) -> None:
        """Do nothing: nobody is told how long it took."""

    def close(self, scope: Scope, **outcome: Any) -> None:
        """Be the current span no longer."""
        del scope, outcome
        _detach(self)


class Recording:
    """A span that is sent to the collector."""

    recorded = True

    def __init__(self, span: Span, base: Context, ids: tuple[str, str]) -> None:
        self._span, self.ids = span, ids
        self._until: int | None = None
        self.token = context.attach(trace.set_span_in_context(span, base))

    def answered(self) -> None:
        """Note that the answer has been sent to its end; background tasks may follow."""
        self._until = time.time_ns()

    def close(
        self, scope: Scope, *, route: str | None, status: int | None, error: BaseException | None
    ) -> None:
        """End the span; `error` is what no answer could make good."""
        _detach(self)
        span = self._span
        found: Attributes = {}
        if route is not None:
            span.update_name(f"{_verb(scope)} {route}")
            found["http.route"] = route
        if status is not None and scope["type"] == "http":
            found["http.response.status_code"] = status
        if failure := _failure(scope, status, error):
            found["error.type"] = failure
            span.set_status(StatusCode.ERROR)
        span.set_attributes(found)
        span.end(self._until)


def _own(ids: tuple[str, str], parent: SpanContext | None, sampled: int) -> SpanContext:
    """Return what names a span, as the SDK would."""
    random = TraceFlags.RANDOM_TRACE_ID
    return SpanContext(
        int(ids[0], 16),
        int(ids[1], 16),
        is_remote=False,
        trace_flags=TraceFlags(
            sampled | (random if parent is None else parent.trace_flags & random)
        ),
        trace_state=None if parent is None else parent.trace_state,
    )


def _detach(span: Placeholder | Recording) -> None:
    """Make a span the current one no longer."""
    context.detach(span.token)
    # The token has the request's context, which has the request, which has the span: left so, all
    # of it would wait for the garbage collector.
    del span.token


def _failure(scope: Scope, status: int | None, error: BaseException | None) -> str | None:
    """Return the kind of what went wrong on our side."""
    if isinstance(error, WebSocketDisconnect) and error.code in _NORMAL_CLOSE:
        return None
    if error is not None:
        return _public_name(type(error))
    if scope["type"] == "websocket":
        return None
    if status is None:
        return "incomplete_response"
    return str(status) if status >= 500 else None  # noqa: PLR2004 (what a server is to blame for)


def _public_name(kind: type[BaseException]) -> str:
    """Return the name under which a stranger finds a class.

    One of this library is found in its package, whichever module of that defines it.
    """
    if kind.__module__ == "builtins":
        return kind.__qualname__
    place = kind.__module__
    if place.startswith(_LIBRARY):
        place = ".".join(place.split(".")[:2])
    return f"{place}.{kind.__qualname__}"


class RequestSpans:
    """Makes the span of each request once it is started; `untraced` paths have none."""

    def __init__(
        self,
        provider: TracerProvider,
        sampling: Sampling,
        *,
        untraced: Collection[str],
        origin: type[Origin] = Origin,
    ) -> None:
        self._origin = origin(provider, SCOPE_NAME, kind=SpanKind.SERVER, schema_url=_SCHEMA_URL)
        self._sampling, self._untraced = sampling, untraced
        # Other formats, and baggage, only where the environment asks for them.
        self._trace_context_alone = propagate.get_global_textmap() is TRACE_CONTEXT

    def open(self, scope: Scope, headers: Headers, random: str) -> RequestSpan | None:
        """Begin the span of a request or WebSocket.

        `random` are 48 hexadecimal digits, the ids of a trace and a span that may be made.
        """
        if scope["path"].removeprefix(scope.get("root_path", "")) in self._untraced:
            return None
        base, parent, trace_id = _NOWHERE, None, random[:32]
        if b"traceparent" in headers or not self._trace_context_alone:
            base = propagate.extract(self._carrier(headers), _NOWHERE)
            found = trace.get_current_span(base).get_span_context()
            if found.is_valid:
                parent, trace_id = found, trace.format_trace_id(found.trace_id)
        if not self._sampling.records(int(trace_id[16:], 16), parent):
            return Placeholder((trace_id, random[32:]), base, parent)
        ids = (trace_id, random[32:])
        span = self._origin.begin(
            _verb(scope),
            _own(ids, parent, TraceFlags.SAMPLED),
            base=base,
            parent=parent,
            attributes=_attributes(scope, headers),
        )
        return Recording(span, base, ids)

    def _carrier(self, headers: Headers) -> dict[str, str]:
        names = _TRACE_CONTEXT if self._trace_context_alone else headers
        return {
            name.decode("latin-1"): headers[name].decode("latin-1")
            for name in names
            if name in headers
        }


def _verb(scope: Scope) -> str:
    """Return what the name of a span begins with."""
    if scope["type"] == "websocket":
        return "WS"
    method: str = scope["method"]
    return method if method in _METHODS else "HTTP"


def _attributes(scope: Scope, headers: Headers) -> Attributes:
    """Return what is known of a request before it is handled."""
    found: Attributes = {"url.scheme": scope["scheme"]}
    # A list in some servers.
    host, port = scope.get("server") or (None, None)
    found |= _server(headers.get(b"host"), scope["scheme"], host, port)
    if scope["type"] == "websocket":
        return found | {"network.protocol.name": "websocket"}
    method: str = scope["method"]
    if method in _METHODS:
        found["http.request.method"] = method
    else:
        found |= {"http.request.method": "_OTHER", "http.request.method_original": method}
    found |= {"network.protocol.version": scope["http_version"], "url.path": scope["path"]}
    if query := scope["query_string"]:
        found["url.query"] = _shown(query.decode("latin-1"))
    return found


# Few hosts are asked for; a stranger who sends many makes room for others.
@lru_cache(maxsize=64)
def _server(
    authority: bytes | None, scheme: str, host: str | None, own_port: int | None
) -> Attributes:
    """Return host and port that the client asked for; nothing when its Host header is odd."""
    address, port = host, own_port
    if authority is not None:
        try:
            url = urlsplit(f"//{authority.decode('latin-1')}")
            address, port = url.hostname, url.port
        except ValueError:
            return {}
        if url.username is not None or url.path or url.query or url.fragment:
            return {}
        port = port or _PORTS.get(scheme)
    known = {"server.address": address, "server.port": port}
    return {name: value for name, value in known.items() if value is not None and address}


def _shown(query: str) -> str:
    """Return a query without the values that the convention calls secret."""
    if not any(name in query for name in _SECRETS):
        return query
    pairs = parse_qsl(query, keep_blank_values=True)
    return urlencode([(name, "REDACTED" if name in _SECRETS else text) for name, text in pairs])
