import asyncio
import logging
import threading
from collections.abc import Callable, Iterator, Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from kit.tests.support.lines import heard_lines
from slipway_kit.tracing.export import RateLimitedLogs, SpanExport

SERVICE = {"service.name": "shop", "service.version": "1.2"}


class Sink(SpanExporter):
    """Takes spans when it is let, and answers as told."""

    def __init__(self) -> None:
        self.open, self.reached = threading.Event(), threading.Event()
        self.result = SpanExportResult.SUCCESS
        self.error: Exception | None = None
        self.taken: list[str] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.reached.set()
        self.open.wait(30)
        if self.error:
            raise self.error
        self.taken.extend(span.name for span in spans)
        return self.result

    def shutdown(self) -> None:
        pass


@pytest.fixture
def sink(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sink]:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "8")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4")
    sink = Sink()
    sink.open.set()
    yield sink
    sink.open.set()


@pytest.fixture
def counted() -> Callable[[], dict[str, float]]:
    before = totals()
    return lambda: {name: value - before[name] for name, value in totals().items()}


def totals() -> dict[str, float]:
    names = ("exported", "failed", "dropped")
    return {
        name: REGISTRY.get_sample_value("otel_spans_total", {"outcome": name}) or 0
        for name in names
    }


def make_spans(export: SpanExport, count: int) -> None:
    tracer = export.provider.get_tracer("test")
    for number in range(count):
        tracer.start_span(f"span {number}").end()


@pytest.mark.anyio
async def test_all_that_is_queued_is_sent_at_the_end_in_order(
    sink: Sink, counted: Callable[[], dict[str, float]]
) -> None:
    export = SpanExport(SERVICE, exporter=sink)
    make_spans(export, 7)
    with capture_logs() as logged:
        await export.close(seconds=30)
    assert sink.taken == [f"span {number}" for number in range(7)]
    assert counted() == {"exported": 7, "failed": 0, "dropped": 0}
    assert not logged


@pytest.mark.anyio
async def test_a_full_queue_drops_the_oldest_and_counts_them(
    sink: Sink, counted: Callable[[], dict[str, float]]
) -> None:
    sink.open.clear()
    export = SpanExport(SERVICE, exporter=sink)
    make_spans(export, 4)
    # These four are on their way, and eight wait.
    assert sink.reached.wait(30)
    make_spans(export, 20)
    assert counted() == {"exported": 0, "failed": 0, "dropped": 12}
    sink.open.set()
    await export.close(seconds=30)
    assert sink.taken[4:] == [f"span {number}" for number in range(12, 20)]
    assert counted() == {"exported": 12, "failed": 0, "dropped": 12}


@pytest.mark.anyio
async def test_a_collector_that_does_not_answer_is_left_behind_and_the_loss_is_logged(
    sink: Sink, counted: Callable[[], dict[str, float]]
) -> None:
    sink.open.clear()
    export = SpanExport(SERVICE, exporter=sink)
    make_spans(export, 7)
    assert sink.reached.wait(30)
    with capture_logs() as logged:
        await export.close(seconds=0.05)
    assert [(line["event"], line["spans"]) for line in logged] == [("spans lost at shutdown", 7)]
    assert counted() == {"exported": 0, "failed": 4, "dropped": 3}
    (sender,) = (each for each in threading.enumerate() if each.name.startswith("OtelBatch"))
    assert sender.daemon, "one that is not would hold up the exit"


@pytest.mark.anyio
async def test_the_loop_turns_while_spans_are_sent(sink: Sink) -> None:
    sink.open.clear()
    export = SpanExport(SERVICE, exporter=sink)
    make_spans(export, 7)
    # The loop itself lets the collector answer, in time for a second batch.
    asyncio.get_running_loop().call_soon(sink.open.set)
    with capture_logs() as logged:
        await export.close(seconds=2)
    assert len(sink.taken) == 7
    assert not logged


@pytest.mark.anyio
async def test_what_fails_at_the_end_is_lost_too(
    sink: Sink, counted: Callable[[], dict[str, float]]
) -> None:
    sink.result = SpanExportResult.FAILURE
    export = SpanExport(SERVICE, exporter=sink)
    make_spans(export, 3)
    with capture_logs() as logged:
        await export.close(seconds=30)
    assert [line["spans"] for line in logged] == [3]
    assert counted() == {"exported": 0, "failed": 3, "dropped": 0}


@pytest.mark.anyio
async def test_an_exporter_that_raises_is_counted_and_stops_nothing(
    sink: Sink, counted: Callable[[], dict[str, float]], caplog: pytest.LogCaptureFixture
) -> None:
    sink.error = ZeroDivisionError()
    export = SpanExport(SERVICE, exporter=sink)
    make_spans(export, 4)
    export.provider.force_flush()
    sink.error = None
    make_spans(export, 2)
    await export.close(seconds=30)
    assert counted() == {"exported": 2, "failed": 4, "dropped": 0}


@pytest.mark.anyio
async def test_a_worker_describes_itself_and_the_environment_wins(
    sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.version=9,team=games")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "store")
    export = SpanExport(SERVICE, exporter=sink)
    described = export.provider.resource.attributes
    assert (described["service.name"], described["service.version"]) == ("store", "9")
    assert described["team"] == "games"
    assert described["service.instance.id"]
    await export.close(seconds=30)


@pytest.fixture
def heard() -> Iterator[list[str]]:
    with heard_lines() as lines:
        yield lines


def test_the_same_line_is_passed_on_once_a_minute_with_a_count(heard: list[str]) -> None:
    now = 0.0
    rare = RateLimitedLogs(clock=lambda: now)
    place = logging.LogRecord("opentelemetry.x", 40, "a.py", 1, "export %s failed", ("y",), None)
    other = logging.LogRecord("opentelemetry.x", 40, "a.py", 2, "another place", (), None)
    for second in range(60):
        now = float(second)
        rare.handle(place)
    rare.handle(other)
    assert heard == ["export y failed", "another place"]
    now = 60.0
    rare.handle(place)
    assert heard[2:] == ["export y failed (59 more were not logged)"]


@pytest.mark.parametrize(
    "name", ["opentelemetry.baggage.propagation", "opentelemetry.trace.propagation.tracecontext"]
)
def test_what_clients_send_wrong_is_no_line(heard: list[str], name: str) -> None:
    RateLimitedLogs().handle(logging.LogRecord(name, 30, "a.py", 1, "bad header", (), None))
    assert heard == []
