"""A light span is exported as a span of the SDK's is, whatever was added to it."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from sqlalchemy.engine.default import DefaultDialect

from kit.tests.support.tracing import SCOPE, untouched_tracing
from slipway_kit.db.address import Address
from slipway_kit.db.statements import SCOPE_NAME, trace_database
from slipway_kit.fast import light_span
from slipway_kit.fast.light_span import LightProvider, LightSpan
from slipway_kit.tracing.provider import Traces
from slipway_kit.tracing.request_spans import PresetIds, RequestSpans, Sampling

RANDOM = "a" * 32 + "b" * 16
OTHER = SpanContext(1, 2, is_remote=False, trace_flags=TraceFlags(1))
RESOURCE = Resource({"service.name": "x"})

Change = Callable[[Span], object]
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
VALUES = st.one_of(
    *(WORDS, st.integers(-5, 5), st.booleans(), st.floats(allow_nan=False), st.none()),
    *(st.lists(WORDS, max_size=2), st.binary(max_size=2), st.just({"a": 1})),
)
NAMES = st.sampled_from(["a", "b", "url.path", "http.route", ""])
STATUSES = st.sampled_from([*StatusCode, Status(StatusCode.ERROR, "why"), Status(StatusCode.OK)])


def many(span: Span) -> None:
    for number in range(130):
        span.set_attribute(f"many{number}", number)


def in_a_block(span: Span) -> None:
    with trace.use_span(span, end_on_exit=False, record_exception=True):
        pass


CHANGES: st.SearchStrategy[Change] = st.one_of(
    st.builds(lambda key, value: lambda span: span.set_attribute(key, value), NAMES, VALUES),
    st.builds(
        lambda found: lambda span: span.set_attributes(found),
        st.dictionaries(NAMES, VALUES, max_size=3),
    ),
    st.builds(lambda name: lambda span: span.update_name(name), WORDS),
    st.builds(lambda status: lambda span: span.set_status(status), STATUSES),
    st.just(lambda span: span.set_status(StatusCode.ERROR, "in words")),
    st.just(lambda span: span.add_event("happened", {"a": 1})),
    st.just(lambda span: span.add_link(OTHER, {"a": 1})),
    st.just(lambda span: span.record_exception(ValueError("x"))),
    st.just(lambda span: span.attributes),
    st.just(many),
    st.just(in_a_block),
    st.just(lambda span: span.end()),
)


class Starts(SpanProcessor):
    """Looks at spans when they start, which a light one does not tell."""

    def on_start(self, span: SdkSpan, parent_context: object = None) -> None:
        """Look at it."""
        span.set_attribute("a", "at the start")


class Spans:
    """Request spans of a provider, and what it exported."""

    def __init__(self, *processors: SpanProcessor, limits: SpanLimits | None = None) -> None:
        self.exporter, self.ids = InMemorySpanExporter(), PresetIds()
        self.provider = LightProvider(
            resource=RESOURCE, id_generator=self.ids, shutdown_on_exit=False, span_limits=limits
        )
        for processor in (*processors, SimpleSpanProcessor(self.exporter)):
            self.provider.add_span_processor(processor)
        sampling = Sampling("parentbased_always_on", 1)
        self._spans = RequestSpans(self.provider, sampling, untraced=())

    def statement(self, *changes: Change) -> ReadableSpan:
        """Change the span of what a request asks of another, and return what was exported of it."""
        tracer = self.provider.get_tracer(SCOPE_NAME)
        opened = self._spans.open(SCOPE, {}, RANDOM)
        assert opened is not None
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(PresetIds, "generate_span_id", lambda _: 3)
            attributes = {"db.query.text": "SELECT 1"}
            span = tracer.start_span("SELECT x", kind=SpanKind.CLIENT, attributes=attributes)
        for change in changes:
            change(span)
        span.end()
        opened.close(SCOPE, route="/a", status=200, error=None)
        found, _ = self.exporter.get_finished_spans()
        self.exporter.clear()
        return found

    def request(self, *changes: Change, headers: dict[bytes, bytes] | None = None) -> ReadableSpan:
        """Change the span of a request, and return what was exported of it."""
        opened = self._spans.open(SCOPE, headers or {}, RANDOM)
        assert opened is not None
        for change in changes:
            change(trace.get_current_span())
        opened.close(SCOPE, route="/a", status=500, error=None)
        (found,) = self.exporter.get_finished_spans()
        self.exporter.clear()
        return found


class Idle(SpanProcessor):
    """Does nothing, in a way of its own."""

    def on_start(self, span: SdkSpan, parent_context: object = None) -> None:
        """Do nothing."""


def told(span: ReadableSpan) -> Any:
    """Return all of it but the moments."""
    return (
        *(span.name, span.context, span.parent, span.kind, span.resource),
        *(span.instrumentation_scope, dict(span.attributes or {})),
        *([(link.context, dict(link.attributes or {})) for link in span.links],),
        *(span.status.status_code, span.status.description),
        *([(event.name, dict(event.attributes or {})) for event in span.events],),
        *(span.dropped_attributes, span.dropped_events, span.dropped_links),
    )


@pytest.mark.parametrize(
    "headers",
    [{}, {b"traceparent": b"00-" + b"1" * 32 + b"-" + b"2" * 16 + b"-03", b"tracestate": b"a=b"}],
)
@settings(deadline=None, max_examples=300)
@given(changes=st.lists(CHANGES, max_size=6))
def test_what_is_exported_is_the_same(headers: dict[bytes, bytes], changes: list[Change]) -> None:
    with untouched_tracing():
        light, whole = Spans(), Spans(Idle())
        assert told(light.request(*changes, headers=headers)) == told(
            whole.request(*changes, headers=headers)
        )


@settings(deadline=None, max_examples=300)
@given(changes=st.lists(CHANGES, max_size=6))
def test_what_is_exported_of_a_statement_is_the_same(changes: list[Change]) -> None:
    with untouched_tracing():
        light, whole = Spans(), Spans(Idle())
        assert told(light.statement(*changes)) == told(whole.statement(*changes))


def test_a_request_that_sends_a_statement_needs_no_span_of_the_sdk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with untouched_tracing():
        spans = Spans()
        trace.set_tracer_provider(spans.provider)
        dialect: Any = DefaultDialect()
        monkeypatch.setattr(dialect, "initialize", lambda _: None)
        monkeypatch.setattr(dialect, "do_execute", lambda *_: None)
        trace_database(dialect, Address("db", 5432, "user", name="games"))
        dialect.initialize(None)
        monkeypatch.setattr("opentelemetry.sdk.trace.Tracer.start_span", None)
        opened = spans._spans.open(SCOPE, {}, RANDOM)
        assert opened is not None
        cursor: Any = None
        dialect.do_execute(cursor, "SELECT 1", None)
        opened.close(SCOPE, route="/a", status=200, error=None)
        statement, request = spans.exporter.get_finished_spans()
    assert (statement.name, statement.kind) == ("SELECT games", SpanKind.CLIENT)
    assert statement.parent == request.context


def test_what_most_requests_do_needs_no_span_of_the_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    with untouched_tracing():
        spans = Spans()
        monkeypatch.setattr("opentelemetry.sdk.trace.Tracer.start_span", None)
        found = spans.request(lambda span: span.set_attribute("tenant", "a"))
    assert found.attributes is not None
    assert found.attributes["tenant"] == "a"
    assert found.end_time is not None
    assert found.start_time is not None
    assert 0 <= found.end_time - found.start_time < 60e9


def test_a_span_that_becomes_whole_keeps_its_start_and_its_ids() -> None:
    with untouched_tracing():
        spans, seen = Spans(), list[Any]()

        def look(span: Any) -> None:
            seen.extend([span.started, span.get_span_context()])
            span.add_event("x")
            assert isinstance(span.attributes["url.path"], str)

        found = spans.request(look)
    assert [found.start_time, found.context] == seen


@pytest.mark.parametrize("changes", [[], [lambda span: span.add_event("x")]])
def test_what_comes_after_the_end_changes_nothing(changes: list[Change]) -> None:
    with untouched_tracing():
        spans, seen = Spans(), list[Any]()
        found = spans.request(seen.append, *changes)
        (span,) = seen
        before = told(found)
        assert not span.is_recording()
        late: list[Change] = [
            lambda span: span.set_attribute("late", 1),
            lambda span: span.add_event("late"),
            lambda span: span.set_status(StatusCode.ERROR, "late"),
            lambda span: span.record_exception(ValueError("late")),
            lambda span: span.end(),
        ]
        for change in late:
            change(span)
        assert not spans.exporter.get_finished_spans()
    assert told(found) == before
    assert span.attributes["url.path"] == "/a"


def test_two_threads_make_one_span_of_it() -> None:
    with untouched_tracing():
        spans = Spans()

        def from_threads(span: Any) -> None:
            threads = [
                threading.Thread(target=span.add_event, args=[str(number)]) for number in range(20)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        found = spans.request(from_threads)
    assert sorted(event.name for event in found.events) == sorted(map(str, range(20)))


def test_a_processor_that_looks_at_starts_gets_spans_of_the_sdk() -> None:
    with untouched_tracing():
        spans, seen = Spans(), list[Any]()
        spans.request(seen.append)
        spans.provider.add_span_processor(Starts())
        found = spans.request(seen.append)
    assert [isinstance(each, LightSpan) for each in seen] == [True, False]
    assert found.attributes is not None
    assert found.attributes["a"] == "at the start"


@pytest.mark.parametrize(
    "limits", [SpanLimits(max_span_attributes=3), SpanLimits(max_span_attribute_length=1)]
)
def test_where_attributes_are_limited_spans_are_of_the_sdk(limits: SpanLimits) -> None:
    with untouched_tracing():
        spans, seen = Spans(limits=limits), list[Any]()
        found = spans.request(seen.append)
    assert not isinstance(seen[0], LightSpan)
    assert found.attributes is not None
    assert found.dropped_attributes or found.attributes["url.path"] == "/"


def test_other_tracers_make_spans_of_the_sdk() -> None:
    with untouched_tracing():
        spans = Spans()
        tracer = spans.provider.get_tracer("team")
        assert spans.provider.get_tracer("team") is tracer
        steps = list[Span]()
        spans.request(lambda _: steps.append(tracer.start_span("step")))
    assert isinstance(steps[0], SdkSpan)


def test_a_statement_without_a_request_is_for_the_sampler_to_decide() -> None:
    with untouched_tracing():
        spans = Spans()
        assert isinstance(spans.provider.get_tracer(SCOPE_NAME).start_span("SELECT"), SdkSpan)


def test_a_light_span_is_a_span_to_whoever_asks() -> None:
    with untouched_tracing():
        spans, seen = Spans(), list[Any]()
        spans.request(seen.append)
    assert isinstance(seen[0], LightSpan)
    assert isinstance(seen[0], Span)


def test_light_spans_are_given_and_taken_back() -> None:
    traces = Traces()
    assert light_span.supported()
    light_span.enable(traces)
    assert traces.provider_class is LightProvider
    light_span.disable()
    assert traces.provider_class is None


def test_an_sdk_that_ends_spans_otherwise_is_not_supported(monkeypatch: pytest.MonkeyPatch) -> None:
    def end(self: object, end_time: int | None = None) -> None:
        """End in some other way."""

    monkeypatch.setattr(SdkSpan, "end", end)
    assert not light_span.supported()
