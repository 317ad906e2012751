"""Encodes spans as OTLP protobuf bytes, with the bytes of each attribute cached.

The exporter makes message objects of every attribute, which costs several times the CPU, in a
thread that competes with the event loop. It has no public hook, so its reference to the encoder is
replaced.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

from opentelemetry.exporter.otlp.proto.common import _internal
from opentelemetry.exporter.otlp.proto.common._internal import trace_encoder as encoder
from opentelemetry.exporter.otlp.proto.http import trace_exporter
from opentelemetry.proto.trace.v1.trace_pb2 import Span, SpanFlags, Status
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.util.types import AttributeValue

from slipway_kit.fast.guard import FastPath

# Encoded attributes are cached; the limit is needed because clients can invent values.
_MAX_CACHED = 4096
# No floats: 0.0 and -0.0 are equal but encoded differently.
_CACHED_TYPES = frozenset({str, bool, int})
# Tags of length-delimited fields: number and wire type (opentelemetry/proto/trace/v1/trace.proto).
_RESOURCE_SPANS, _SCOPE_SPANS, _SPAN = b"\x0a", b"\x12", b"\x12"
_LOCAL = SpanFlags.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK
_REMOTE = _LOCAL | SpanFlags.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK


def _parts() -> Iterable[Callable[..., Any]]:
    names = (
        *("encode_spans", "_encode_resource_spans", "_encode_span", "_span_flags"),
        *("_encode_status", "_encode_parent_id"),
    )
    return [
        trace_exporter.OTLPSpanExporter.export,
        *(getattr(encoder, name) for name in names),
        *(_internal._encode_attributes, _internal._encode_value),
    ]


_path = FastPath(_parts, "0e0c95d24ffc44fd")
supported, disable = _path.supported, _path.disable


def enable() -> None:
    """Make the exporter encode with this module."""
    _path.replace(trace_exporter, "encode_spans", EncodedSpans)


class EncodedSpans:
    """An export request, encoded by the one method that the exporter calls."""

    def __init__(self, spans: Sequence[ReadableSpan]) -> None:
        self._groups: dict[tuple[int, int], list[ReadableSpan]] = {}
        for span in spans:
            key = (id(span.resource), id(span.instrumentation_scope))
            self._groups.setdefault(key, []).append(span)

    def SerializePartialToString(self) -> bytes:  # noqa: N802 (protobuf's name)
        """Return an encoded `ExportTraceServiceRequest` with all spans."""
        return b"".join([_request(spans) for spans in self._groups.values()])


def _request(spans: Sequence[ReadableSpan]) -> bytes:
    """Return an encoded request with spans of one resource and scope."""
    (resource_spans,) = encoder.encode_spans(spans[:1]).resource_spans
    (scope_spans,) = resource_spans.scope_spans
    scope_spans.ClearField("spans")
    written = [_field(_SPAN, _encoded(span)) for span in spans]
    scope = _field(_SCOPE_SPANS, scope_spans.SerializeToString() + b"".join(written))
    resource_spans.ClearField("scope_spans")
    return _field(_RESOURCE_SPANS, resource_spans.SerializeToString() + scope)


def _encoded(span: Any) -> bytes:
    own, parent, status = span.context, span.parent, span.status
    if (
        own.trace_state
        or status.description
        or span.events
        or span.links
        or span.dropped_attributes
        or span.dropped_events
        or span.dropped_links
    ):
        whole: bytes = encoder._encode_span(span).SerializeToString()
        return whole
    remote = parent is not None and parent.is_remote
    # Concatenated messages of one type are merged by the reader.
    parts = [_shape(span.name, span.kind, status.status_code, remote)]
    parts += [
        (_cached if type(value) in _CACHED_TYPES else _attribute)(name, value)
        for name, value in (span.attributes or {}).items()
    ]
    message: Any = Span(
        trace_id=own.trace_id.to_bytes(16, "big"),
        span_id=own.span_id.to_bytes(8, "big"),
        parent_span_id=parent.span_id.to_bytes(8, "big") if parent else b"",
        start_time_unix_nano=span.start_time,
        end_time_unix_nano=span.end_time,
    )
    parts.append(message.SerializeToString())
    return b"".join(parts)


@lru_cache(_MAX_CACHED)
def _shape(name: str, kind: SpanKind, code: StatusCode, remote: bool) -> bytes:
    """Return an encoded span with what most spans of one name share."""
    flags = _REMOTE if remote else _LOCAL
    status = Status(code=code.value)  # type: ignore[arg-type]
    span: Any = Span(name=name, kind=encoder._SPAN_KIND_MAP[kind], status=status, flags=flags)
    encoded: bytes = span.SerializeToString()
    return encoded


def _attribute(name: str, value: AttributeValue) -> bytes:
    """Return an encoded span with this attribute alone."""
    span: Any = Span(attributes=_internal._encode_attributes({name: value}))
    encoded: bytes = span.SerializeToString()
    return encoded


_cached = lru_cache(_MAX_CACHED, typed=True)(_attribute)


def _field(tag: bytes, data: bytes) -> bytes:
    """Return a length-delimited field."""
    size, length = len(data), bytearray(tag)
    while size > 0x7F:  # noqa: PLR2004 (seven bits a byte)
        length.append(size & 0x7F | 0x80)
        size >>= 7
    length.append(size)
    return bytes(length) + data
