"""Spans written as bytes are those of the exporter's own encoder."""

import math
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common._internal import trace_encoder
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.http import trace_exporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags, TraceState
from opentelemetry.trace.status import Status, StatusCode

from kit.tests.support.paths import SERVICE
from slipway_kit.fast import span_bytes

# A module, of which types know less than there is.
EXPORTER: Any = trace_exporter
RESOURCES = [Resource({"service.name": "x", "n": 3}, "https://a.example/1"), Resource({})]
SCOPES = [InstrumentationScope("app", "1", "https://b.example/2"), InstrumentationScope("db")]
NUMBERS = st.integers(-(2**63), 2**63 - 1)
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
PLAIN = WORDS | st.booleans() | NUMBERS | st.floats(allow_nan=False)
LISTS = st.lists(WORDS, max_size=3) | st.lists(NUMBERS, max_size=3)


def contexts(remote: bool | None = None) -> st.SearchStrategy[SpanContext]:
    return st.builds(
        SpanContext,
        st.integers(1, 2**128 - 1),
        st.integers(1, 2**64 - 1),
        st.booleans() if remote is None else st.just(remote),
        st.just(TraceFlags(1)),
        st.sampled_from([TraceState(), TraceState([("a", "b")])]),
    )


def attributes(values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(WORDS.filter(bool), values, max_size=6)


SPANS = st.builds(
    ReadableSpan,
    name=WORDS,
    context=contexts(remote=False),
    parent=st.none() | contexts(),
    resource=st.sampled_from(RESOURCES),
    attributes=attributes(PLAIN | LISTS),
    events=st.lists(st.builds(Event, WORDS, attributes(PLAIN), st.integers(0, 2**60)), max_size=1),
    links=st.lists(st.builds(Link, contexts(), attributes(PLAIN)), max_size=1),
    kind=st.sampled_from(SpanKind),
    status=st.sampled_from(
        [Status(), Status(StatusCode.OK), Status(StatusCode.ERROR), Status(StatusCode.ERROR, "x")]
    ),
    start_time=st.integers(0, 2**63),
    end_time=st.integers(0, 2**63),
    instrumentation_scope=st.sampled_from(SCOPES),
)


def sorted_spans(data: bytes) -> list[tuple[bytes, bytes, bytes]]:
    """Return each span with what it belongs to."""
    found = ExportTraceServiceRequest.FromString(data)
    return sorted(
        (
            group.resource.SerializeToString(deterministic=True) + group.schema_url.encode(),
            scope.scope.SerializeToString(deterministic=True) + scope.schema_url.encode(),
            span.SerializeToString(deterministic=True),
        )
        for group in found.resource_spans
        for scope in group.scope_spans
        for span in scope.spans
    )


@settings(deadline=None, max_examples=200)
@given(spans=st.lists(SPANS, max_size=8))
def test_every_span_is_what_the_exporters_own_encoder_makes_of_it(
    spans: list[ReadableSpan],
) -> None:
    expected = sorted_spans(encode_spans(spans).SerializeToString())
    assert sorted_spans(encoded(spans)) == expected
    # The second time attributes come from memory.
    assert sorted_spans(encoded(spans)) == expected


def encoded(spans: Sequence[ReadableSpan]) -> bytes:
    return span_bytes.EncodedSpans(spans).SerializePartialToString()


def span(**attributes: Any) -> ReadableSpan:
    return ReadableSpan(
        name="GET /x",
        context=SpanContext(2**127 + 5, 7, is_remote=False),
        parent=SpanContext(1, 300, is_remote=True),
        resource=RESOURCES[0],
        attributes=attributes,
        kind=SpanKind.SERVER,
        start_time=1,
        end_time=2**40,
        instrumentation_scope=SCOPES[0],
    )


def test_a_usual_span_is_encoded_here(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = [span(text="a", number=-1, yes=True, no=False, share=0.5, not_a_number=math.nan)] * 3
    expected = sorted_spans(encode_spans(usual).SerializeToString())
    own, asked = trace_encoder._encode_span, list[ReadableSpan]()

    def encode_span(span: ReadableSpan) -> Any:
        asked.append(span)
        return own(span)

    monkeypatch.setattr(trace_encoder, "_encode_span", encode_span)
    assert sorted_spans(encoded(usual)) == expected
    # One for what they all belong to.
    assert len(asked) == 1


def test_values_that_are_equal_and_of_other_types_are_not_mistaken() -> None:
    for value in (1, True, 1.0, "1", 0, False, 0.0, -0.0):
        one = [span(value=value)]
        expected = sorted_spans(encode_spans(one).SerializeToString())
        assert sorted_spans(encoded(one)) == expected, repr(value)


def test_what_is_kept_is_bounded() -> None:
    encoded([span(number=number) for number in range(2 * span_bytes._MAX_CACHED)])
    assert span_bytes._cached.cache_info().currsize <= span_bytes._MAX_CACHED


def test_an_exporter_that_sends_otherwise_is_not_supported(monkeypatch: pytest.MonkeyPatch) -> None:
    def export(self: object, spans: object) -> None:
        """Send in some other way."""

    monkeypatch.setattr(trace_exporter.OTLPSpanExporter, "export", export)
    assert not span_bytes.supported()


def test_the_exporter_gets_its_own_encoder_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EXPORTER, "encode_spans", encode_spans)
    assert span_bytes.supported()
    span_bytes.enable()
    assert EXPORTER.encode_spans is span_bytes.EncodedSpans
    span_bytes.disable()
    assert EXPORTER.encode_spans is encode_spans


def test_nobody_who_sends_no_traces_imports_it() -> None:
    check = "import app.main, sys; sys.exit('slipway_kit.fast.span_bytes' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", check], cwd=SERVICE, check=False)
    assert done.returncode == 0
