from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from app.kit.tracing import carrier, continued

PARENT = SpanContext(0xA, 0xB, is_remote=False, trace_flags=TraceFlags(1))


def test_another_process_goes_on_in_the_same_trace() -> None:
    with trace.use_span(NonRecordingSpan(PARENT)):
        sent = carrier()
    assert not trace.get_current_span().get_span_context().is_valid
    with continued(sent):
        found = trace.get_current_span().get_span_context()
    assert (found.trace_id, found.span_id, found.trace_flags) == (0xA, 0xB, 1)
    assert found.is_remote
    assert not trace.get_current_span().get_span_context().is_valid


def test_without_a_trace_nothing_is_carried_and_nothing_continued() -> None:
    assert carrier() == {}
    with continued({}):
        assert not trace.get_current_span().get_span_context().is_valid


def test_a_carrier_that_makes_no_sense_is_ignored() -> None:
    with continued({"traceparent": "00-nonsense"}):
        assert not trace.get_current_span().get_span_context().is_valid
