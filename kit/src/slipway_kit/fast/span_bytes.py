"""Encodes spans as OTLP protobuf bytes directly, without the message objects of the exporter.

Those cost several times the CPU, in a thread that competes with the event loop. A span with events,
links or other rare parts is left to the exporter's encoder. The exporter has no public hook, so its
reference to the encoder is replaced.
"""

import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from opentelemetry.exporter.otlp.proto.common import _internal
from opentelemetry.exporter.otlp.proto.common._internal import trace_encoder as encoder
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.http import trace_exporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.util.types import AttributeValue

from slipway_kit.fast import guard

_KNOWN = frozenset({"0e0c95d24ffc44fd"})
# Encoded attributes are cached; the limit is needed because clients can invent values.
_MAX_CACHED = 4096
# No floats: 0.0 and -0.0 are equal but encoded differently.
_CACHED_TYPES = frozenset({str, bool, int})
_U64 = 2**64 - 1
_FIXED64 = struct.Struct("<Q").pack
_DOUBLE = struct.Struct("<d").pack
# Fields of a span: number and wire type (opentelemetry/proto/trace/v1/trace.proto).
_TRACE_ID, _SPAN_ID, _PARENT_ID = b"\x0a\x10", b"\x12\x08", b"\x22\x08"
_NAME, _KIND, _START, _END, _ATTRIBUTE = b"\x2a", b"\x30", b"\x39", b"\x41", b"\x4a"
_NO_STATUS, _STATUS = b"\x7a\x00", b"\x7a\x02\x18"
# Flags: has_is_remote, and is_remote.
_LOCAL, _REMOTE = b"\x85\x01\x00\x01\x00\x00", b"\x85\x01\x00\x03\x00\x00"
# Field tags of containers and of key and value.
_FIRST, _SECOND, _SCHEMA = b"\x0a", b"\x12", b"\x1a"


def _parts() -> Iterable[Callable[..., Any]]:
    exporter = trace_exporter.OTLPSpanExporter
    names = (
        *("encode_spans", "_encode_resource_spans", "_encode_span", "_span_flags"),
        *("_encode_status", "_encode_parent_id"),
    )
    return [
        exporter.export,
        *(getattr(encoder, name) for name in names),
        *(_internal._encode_attributes, _internal._encode_value),  # noqa: SLF001 (see above)
    ]


def supported() -> bool:
    """Whether the source of the exporter's encoder is known."""
    return guard.is_known(_parts, _KNOWN)


def enable() -> None:
    """Make the exporter use a `SpanWriter`."""
    writer = SpanWriter()

    def encode(spans: Sequence[ReadableSpan]) -> EncodedMessage:
        try:
            return EncodedMessage(writer.write(spans))
        except Exception:  # noqa: BLE001 (an unexpected attribute must not lose a batch)
            return EncodedMessage(encode_spans(spans).SerializePartialToString())

    setattr(trace_exporter, "encode_spans", encode)  # noqa: B010 (its type is another)


def disable() -> None:
    """Make the exporter use its own encoder."""
    setattr(trace_exporter, "encode_spans", encode_spans)  # noqa: B010 (the same)


class SpanWriter:
    """Encodes export requests."""

    def __init__(self) -> None:
        self._attributes: dict[tuple[str, type, AttributeValue], bytes] = {}

    def write(self, spans: Sequence[ReadableSpan]) -> bytes:
        """Return an encoded `ExportTraceServiceRequest` with all spans."""
        groups: dict[tuple[int, int], tuple[ReadableSpan, list[bytes]]] = {}
        others = []
        for span in spans:
            written = self._span(span)
            if written is None:
                others.append(span)
                continue
            key = (id(span.resource), id(span.instrumentation_scope))
            if key not in groups:
                groups[key] = (span, [])
            groups[key][1].append(_length_delimited(_SECOND, written))
        parts = [_group(example, b"".join(group)) for example, group in groups.values()]
        if others:
            # Concatenated messages of one type are merged by the reader.
            parts.append(encode_spans(others).SerializePartialToString())
        return b"".join(parts)

    def _span(self, span: ReadableSpan) -> bytes | None:
        """Return the encoded span, or `None` when it has rare parts."""
        own, parent, status = span.context, span.parent, span.status
        if (
            own is None
            or own.trace_state
            or span.start_time is None
            or span.end_time is None
            or status.description
            or span.events
            or span.links
            or span.dropped_attributes
            or span.dropped_events
            or span.dropped_links
        ):
            return None
        parts = [
            _TRACE_ID,
            own.trace_id.to_bytes(16, "big"),
            _SPAN_ID,
            own.span_id.to_bytes(8, "big"),
        ]
        if parent is not None:
            parts += (_PARENT_ID, parent.span_id.to_bytes(8, "big"))
        # The protocol's enumeration starts at 1.
        parts += (_length_delimited(_NAME, span.name.encode()), _KIND, _varint(span.kind.value + 1))
        parts += (_START, _FIXED64(span.start_time), _END, _FIXED64(span.end_time))
        for name, value in (span.attributes or {}).items():
            kind = type(value)
            known = self._attributes.get((name, kind, value)) if kind in _CACHED_TYPES else None
            written = known or self._attribute(name, value)
            if written is None:
                return None
            parts.append(written)
        code = status.status_code.value
        parts.append(_STATUS + _varint(code) if code else _NO_STATUS)
        parts.append(_REMOTE if parent is not None and parent.is_remote else _LOCAL)
        return b"".join(parts)

    def _attribute(self, name: str, value: AttributeValue) -> bytes | None:
        match value:
            case str():
                text = _length_delimited(_FIRST, value.encode())
            case bool():
                text = b"\x10\x01" if value else b"\x10\x00"
            case int():
                text = b"\x18" + _varint(value & _U64)
            case float():
                text = b"\x21" + _DOUBLE(value)
            case _:
                return None
        pair = _length_delimited(_FIRST, name.encode()) + _length_delimited(_SECOND, text)
        written = _length_delimited(_ATTRIBUTE, pair)
        if type(value) in _CACHED_TYPES:
            if len(self._attributes) >= _MAX_CACHED:
                self._attributes.clear()
            self._attributes[name, type(value), value] = written
        return written


class EncodedMessage:
    """Encoded bytes with the one method that the exporter calls."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def SerializePartialToString(self) -> bytes:  # noqa: N802 (protobuf's name)
        """Return the bytes."""
        return self._data


def _group(example: ReadableSpan, spans: bytes) -> bytes:
    """Return the encoded spans with the resource and scope of `example`."""
    (resource_spans,) = encode_spans([example]).resource_spans
    (scope_spans,) = resource_spans.scope_spans
    scope = _length_delimited(_FIRST, scope_spans.scope.SerializeToString()) + spans
    if scope_spans.schema_url:
        scope += _length_delimited(_SCHEMA, scope_spans.schema_url.encode())
    whole = _length_delimited(
        _FIRST, resource_spans.resource.SerializeToString()
    ) + _length_delimited(_SECOND, scope)
    if resource_spans.schema_url:
        whole += _length_delimited(_SCHEMA, resource_spans.schema_url.encode())
    return _length_delimited(_FIRST, whole)


def _length_delimited(field: bytes, data: bytes) -> bytes:
    """Return a length-delimited field."""
    return field + _varint(len(data)) + data


def _varint(number: int) -> bytes:
    """Return a base-128 varint."""
    if number < 0x80:  # noqa: PLR2004 (what fits into seven bits)
        return bytes((number,))
    found = bytearray()
    while number > 0x7F:  # noqa: PLR2004
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)
