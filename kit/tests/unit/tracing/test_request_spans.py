"""Which requests are recorded, and what is known of those that are not."""

import pkgutil
from collections.abc import Iterator
from importlib import import_module
from random import getrandbits
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Decision, _get_from_env_or_default
from opentelemetry.trace import NonRecordingSpan, SpanContext, StatusCode, TraceFlags

import slipway_kit
from kit.tests.support.tracing import SCOPE, untouched_tracing
from slipway_kit.db.errors import DatabaseUnavailable
from slipway_kit.errors import ServiceError, Unavailable
from slipway_kit.trace_context import carrier
from slipway_kit.tracing.request_spans import PresetIds, RequestSpans, Sampling

PROBES = "slipway_kit.http.probes"
SAMPLERS = [
    f"{prefix}{kind}"
    for prefix in ("", "parentbased_")
    for kind in ("always_on", "always_off", "traceidratio")
]
TRACE_IDS = st.integers(1, 2**128 - 1)
PARENTS = st.none() | st.builds(
    SpanContext,
    trace_id=TRACE_IDS,
    span_id=st.integers(1, 2**64 - 1),
    is_remote=st.just(True),
    trace_flags=st.integers(0, 255).map(TraceFlags),
)


@pytest.mark.parametrize("sampler", SAMPLERS)
@settings(deadline=None)
@given(trace_id=TRACE_IDS, parent=PARENTS, share=st.floats(0, 1))
def test_a_request_is_recorded_when_the_sdk_would_record_it(
    sampler: str, trace_id: int, parent: SpanContext | None, share: float
) -> None:
    trace_id = trace_id if parent is None else parent.trace_id
    base = trace.set_span_in_context(NonRecordingSpan(parent)) if parent else None
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OTEL_TRACES_SAMPLER", sampler)
        environment.setenv("OTEL_TRACES_SAMPLER_ARG", repr(share))
        decided = _get_from_env_or_default().should_sample(base, trace_id, "GET").decision
    low_bits = trace_id % 2**64
    recorded = Sampling(sampler, share).records(low_bits, parent)
    assert recorded is (decided is Decision.RECORD_AND_SAMPLE)


class Spans:
    """Request spans of a provider of their own, and what was recorded."""

    def __init__(self, sampler: str = "always_on", share: float = 1) -> None:
        self.exporter, ids = InMemorySpanExporter(), PresetIds()
        self.provider = TracerProvider(id_generator=ids, shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self._spans = RequestSpans(self.provider, Sampling(sampler, share), untraced={"/readyz"})

    def open(self, headers: dict[bytes, bytes] | None = None, **scope: Any) -> Any:
        """Begin a request."""
        return self._spans.open(SCOPE | scope, headers or {}, f"{getrandbits(192):048x}")

    def request(
        self,
        *,
        headers: dict[bytes, bytes] | None = None,
        route: str | None = "/a",
        status: int = 200,
        error: BaseException | None = None,
        **scope: Any,
    ) -> Any:
        """Let a request begin and end, and return the span that was recorded of it."""
        asked = SCOPE | scope
        opened = self.open(headers, **scope)
        opened.close(asked, route=route, status=status, error=error)
        finished = self.exporter.get_finished_spans()
        return finished[-1] if finished else None


@pytest.fixture
def spans() -> Iterator[Spans]:
    with untouched_tracing():
        yield Spans()


def test_a_span_has_the_attributes_of_the_convention(spans: Spans) -> None:
    found = spans.request(
        headers={b"host": b"shop.example:81"}, query_string=b"token=secret&secret"
    )
    assert (found.name, found.kind) == ("GET /a", trace.SpanKind.SERVER)
    assert dict(found.attributes) == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "http.route": "/a",
        "network.protocol.version": "1.1",
        "server.address": "shop.example",
        "server.port": 81,
        "url.path": "/a",
        "url.scheme": "http",
    }


@pytest.mark.parametrize(
    ("host", "address", "port"),
    [
        (b"shop.example", "shop.example", 80),
        (b"[::1]:99", "::1", 99),
        (None, "10.0.0.7", 8000),
        (b"user@shop.example", None, None),
        (b"shop.example/path", None, None),
        (b"shop.example:port", None, None),
        (b"[", None, None),
        (b"", None, None),
    ],
)
def test_the_server_is_what_the_client_asked_for(
    spans: Spans, host: bytes | None, address: str | None, port: int | None
) -> None:
    found = spans.request(headers={} if host is None else {b"host": host}).attributes
    assert (found.get("server.address"), found.get("server.port")) == (address, port)


def test_a_method_that_nobody_knows_is_another_one(spans: Spans) -> None:
    found = spans.request(method="PROPFIND")
    assert found.name == "HTTP /a"
    assert found.attributes["http.request.method"] == "_OTHER"
    assert found.attributes["http.request.method_original"] == "PROPFIND"


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (200, None, None),
        (499, None, None),
        (500, None, "500"),
        (200, ZeroDivisionError(), "ZeroDivisionError"),
        (200, Unavailable(), "slipway_kit.errors.Unavailable"),
        (200, DatabaseUnavailable(), "slipway_kit.db.DatabaseUnavailable"),
    ],
)
def test_what_the_server_is_to_blame_for_is_an_error(
    spans: Spans, status: int, error: BaseException | None, kind: str | None
) -> None:
    found = spans.request(status=status, error=error)
    assert found.attributes.get("error.type") == kind
    assert (found.status.status_code is StatusCode.ERROR) is (kind is not None)


def errors_of_the_library() -> Iterator[type[ServiceError]]:
    """Give all that may break an answer off; probes, which raise another one, have no spans."""
    for module in pkgutil.walk_packages(slipway_kit.__path__, "slipway_kit."):
        if not module.name.startswith(("slipway_kit.dev", "slipway_kit.testing", PROBES)):
            for found in vars(import_module(module.name)).values():
                if isinstance(found, type) and issubclass(found, ServiceError):
                    yield found


def test_an_error_of_the_library_is_named_as_a_stranger_imports_it(spans: Spans) -> None:
    errors = set(errors_of_the_library())
    assert len(errors) > 15
    for error in errors:
        place, _, name = spans.request(error=error()).attributes["error.type"].rpartition(".")
        assert place.count(".") == 1
        assert getattr(import_module(place), name) is error


@pytest.mark.parametrize(
    ("error", "failed"),
    [(None, False), (ZeroDivisionError(), True)],
)
def test_a_socket_is_a_span_that_fails_when_it_breaks(
    spans: Spans, error: BaseException | None, *, failed: bool
) -> None:
    found = spans.request(type="websocket", scheme="ws", status=101, error=error)
    assert found.name == "WS /a"
    assert found.attributes["network.protocol.name"] == "websocket"
    assert "http.response.status_code" not in found.attributes
    assert ("error.type" in found.attributes) is failed


def test_a_span_ends_with_its_answer_and_not_with_the_tasks_after_it() -> None:
    with untouched_tracing():
        spans = Spans()
        opened = spans.open()
        opened.answered()
        with spans.provider.get_tracer("test").start_as_current_span("task"):
            pass
        opened.close(SCOPE, route="/a", status=200, error=None)
    task, request = spans.exporter.get_finished_spans()
    assert task.parent == request.context
    assert request.end_time is not None
    assert task.start_time is not None
    assert request.end_time <= task.start_time


def test_an_untraced_path_has_no_span_behind_a_prefix_either(spans: Spans) -> None:
    for path, root in (("/readyz", ""), ("/shop/readyz", "/shop")):
        assert spans.open(path=path, root_path=root) is None


@pytest.mark.parametrize(("flags", "sent_on"), [("00", "00"), ("02", "02"), ("fe", "02")])
def test_what_is_not_recorded_sends_the_callers_decision_and_state_on(
    flags: str, sent_on: str
) -> None:
    parent = f"00-{'1' * 32}-{'2' * 16}-{flags}"
    with untouched_tracing():
        spans = Spans("parentbased_always_on")
        headers = {b"traceparent": parent.encode(), b"tracestate": b"a=b"}
        opened = spans.open(headers)
        sent = carrier()
        opened.close(SCOPE, route="/a", status=200, error=None)
    assert opened.ids[0] == "1" * 32
    assert sent == {"traceparent": f"00-{'1' * 32}-{opened.ids[1]}-{sent_on}", "tracestate": "a=b"}
    assert not spans.exporter.get_finished_spans()


def test_a_new_trace_that_is_not_recorded_is_sent_on_as_such() -> None:
    with untouched_tracing():
        spans = Spans("always_off")
        opened = spans.open()
        sent = carrier()
        opened.close(SCOPE, route="/a", status=200, error=None)
    assert sent["traceparent"] == f"00-{opened.ids[0]}-{opened.ids[1]}-02"
    assert not trace.get_current_span().get_span_context().is_valid


@pytest.mark.parametrize("sampler", ["always_on", "always_off"])
def test_a_new_trace_has_the_id_that_was_decided_about(sampler: str) -> None:
    random = "a" * 32 + "b" * 16
    with untouched_tracing():
        spans = Spans(sampler)
        opened = spans._spans.open(SCOPE, {}, random)
        assert opened is not None
        assert trace.get_current_span().get_span_context().trace_id == int("a" * 32, 16)
        opened.close(SCOPE, route="/a", status=200, error=None)
    assert opened.ids[0] == "a" * 32


def test_the_share_that_is_asked_for_is_recorded() -> None:
    with untouched_tracing():
        spans = Spans("traceidratio", 0.1)
        for _ in range(2000):
            spans.request()
    recorded = spans.exporter.get_finished_spans()
    # Six standard deviations.
    assert 120 < len(recorded) < 280
    assert len({span.context.trace_id for span in recorded}) == len(recorded)
