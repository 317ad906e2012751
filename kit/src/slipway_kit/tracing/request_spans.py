"""The server span of each request, by OpenTelemetry's semantic conventions for HTTP.

Sampling is decided first, by the rule of the SDK's samplers. An unrecorded request has a cheap span
that propagates the decision to its calls. FastAPI's own telemetry needs several times the CPU.
"""

import threading
import time
from collections.abc import Collection, Mapping
from functools import lru_cache
from http import HTTPMethod
from typing import Any
from urllib.parse import urlsplit

from opentelemetry import context, propagate, trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, TraceFlags
from opentelemetry.util.types import AttributeValue
from starlette.types import Scope

from slipway_kit.trace_context import TRACE_CONTEXT

Headers = Mapping[bytes, bytes]
Attributes = dict[str, AttributeValue]

# The instrumentation scope.
SCOPE_NAME = "slipway_kit.http"
_SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"
# The methods that the conventions know.
_METHODS = frozenset([*HTTPMethod, "QUERY"])
_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}
_PACKAGE_PREFIX = "slipway_kit."
_EMPTY_CONTEXT = Context()
_TRACE_CONTEXT = frozenset({b"traceparent", b"tracestate"})


class Sampling:
    """The sampling decision, equal to that of the SDK's sampler of this name."""

    def __init__(self, sampler: str, share: float) -> None:
        self._follows_parent = sampler.startswith("parentbased_")
        kind = sampler.removeprefix("parentbased_")
        share = {"always_on": 1.0, "always_off": 0.0}.get(kind, share)
        self._bound = TraceIdRatioBased.get_bound_for_rate(share)

    def records(self, low_bits: int, parent: SpanContext | None) -> bool:
        """Whether a span is recorded; `low_bits` are the lower 64 bits of its trace id."""
        if parent is not None and self._follows_parent:
            return parent.trace_flags.sampled
        return low_bits < self._bound


class UnrecordedSpan(NonRecordingSpan):
    """The span of an unrecorded request; its calls and log lines use the ids.

    `ids` are the trace id and the span id, in hexadecimal.
    """

    recorded = False

    def __init__(self, ids: tuple[str, str], base: Context, parent: SpanContext | None) -> None:
        self.ids, self._parent = ids, parent
        self._made: SpanContext | None = None
        self.token = context.attach(trace.set_span_in_context(self, base))

    def get_span_context(self) -> SpanContext:
        """Return the span context, built on first use because few requests need it."""
        if self._made is None:
            self._made = _span_context(self.ids, self._parent, TraceFlags.DEFAULT)
        return self._made

    def answered(self) -> None:
        """Do nothing: no duration is recorded."""

    def close(self, scope: Scope, **outcome: Any) -> None:
        """Restore the previous current span."""
        del scope, outcome
        _detach(self)


class RecordedSpan:
    """The span of a recorded request."""

    recorded = True

    def __init__(self, span: Span, base: Context, ids: tuple[str, str]) -> None:
        self._span, self.ids = span, ids
        self._until: int | None = None
        self.token = context.attach(trace.set_span_in_context(span, base))

    def answered(self) -> None:
        """Note the end of the response; background tasks may follow."""
        self._until = time.time_ns()

    def close(
        self, scope: Scope, *, route: str | None, status: int, error: BaseException | None
    ) -> None:
        """End the span; `error` is an exception that no response has handled."""
        _detach(self)
        span = self._span
        found: Attributes = {}
        if route is not None:
            span.update_name(f"{_method_name(scope)} {route}")
            found["http.route"] = route
        if scope["type"] == "http":
            found["http.response.status_code"] = status
        if failure := _error_type(scope, status, error):
            found["error.type"] = failure
            span.set_status(trace.StatusCode.ERROR)
        span.set_attributes(found)
        span.end(self._until)


# The span of a request in flight; it is the current span until `close`.
RequestSpan = UnrecordedSpan | RecordedSpan


def _span_context(ids: tuple[str, str], parent: SpanContext | None, sampled: int) -> SpanContext:
    """Return the same span context as the SDK would."""
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


def _detach(span: RequestSpan) -> None:
    context.detach(span.token)
    # The token closes a reference cycle with the request, which only the garbage collector would
    # free.
    del span.token


def _error_type(scope: Scope, status: int, error: BaseException | None) -> str | None:
    """Return `error.type`, or `None` when the server is not at fault."""
    if error is not None:
        return _public_name(type(error))
    if scope["type"] == "websocket":
        return None
    return str(status) if status >= 500 else None  # noqa: PLR2004 (server errors)


def _public_name(kind: type[BaseException]) -> str:
    """Return the qualified name of a class; one of this library is named by its public package."""
    place = kind.__module__
    if place.startswith(_PACKAGE_PREFIX):
        place = ".".join(place.split(".")[:2])
    return kind.__qualname__ if place == "builtins" else f"{place}.{kind.__qualname__}"


class PresetIds(threading.local, RandomIdGenerator):
    """Random ids, except for the next span of this thread once its context is preset."""

    preset: SpanContext | None = None

    def generate_trace_id(self) -> int:
        """Return the id of the preset trace, else a random one."""
        return self.preset.trace_id if self.preset else super().generate_trace_id()

    def generate_span_id(self) -> int:
        """Return the preset id once, else a random one."""
        preset, self.preset = self.preset, None
        return preset.span_id if preset else super().generate_span_id()


class RequestSpans:
    """Makes the span of each request; `untraced` paths get none."""

    def __init__(
        self, provider: TracerProvider, sampling: Sampling, *, untraced: Collection[str]
    ) -> None:
        self._tracer = provider.get_tracer(SCOPE_NAME, schema_url=_SCHEMA_URL)
        # `PresetIds`.
        self._ids: Any = provider.id_generator
        self._sampling, self._untraced = sampling, untraced
        # Other formats, and baggage, only when OTEL_PROPAGATORS names them.
        self._trace_context_alone = propagate.get_global_textmap() is TRACE_CONTEXT

    def open(self, scope: Scope, headers: Headers, random: str) -> RequestSpan | None:
        """Start the span of a request or WebSocket.

        `random` is 48 hexadecimal digits: the ids of a new trace and a new span.
        """
        if scope["path"].removeprefix(scope.get("root_path", "")) in self._untraced:
            return None
        base, parent, trace_id = _EMPTY_CONTEXT, None, random[:32]
        if b"traceparent" in headers or not self._trace_context_alone:
            names = _TRACE_CONTEXT.intersection(headers) if self._trace_context_alone else headers
            carrier = {name.decode("latin-1"): headers[name].decode("latin-1") for name in names}
            base = propagate.extract(carrier, _EMPTY_CONTEXT)
            found = trace.get_current_span(base).get_span_context()
            if found.is_valid:
                parent, trace_id = found, trace.format_trace_id(found.trace_id)
        if not self._sampling.records(int(trace_id[16:], 16), parent):
            return UnrecordedSpan((trace_id, random[32:]), base, parent)
        ids = (trace_id, random[32:])
        attributes = _attributes(scope, headers)
        self._ids.preset = _span_context(ids, parent, TraceFlags.SAMPLED)
        span = self._tracer.start_span(_method_name(scope), base, SpanKind.SERVER, attributes)
        return RecordedSpan(span, base, ids)


def _method_name(scope: Scope) -> str:
    if scope["type"] == "websocket":
        return "WS"
    method: str = scope["method"]
    return method if method in _METHODS else "HTTP"


def _attributes(scope: Scope, headers: Headers) -> Attributes:
    """Return the attributes that are known before the request is handled.

    There is no `url.query`: any parameter may hold a secret.
    """
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
    return found | {"network.protocol.version": scope["http_version"], "url.path": scope["path"]}


# A service has few host names; a client that sends many only evicts entries.
@lru_cache(maxsize=64)
def _server(
    authority: bytes | None, scheme: str, host: str | None, own_port: int | None
) -> Attributes:
    """Return the attributes of the Host header; none when it is malformed."""
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
