"""What a collector receives of requests; neither it nor a client can do harm by it."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, BackgroundTasks, FastAPI, HTTPException, WebSocket
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult
from prometheus_client import REGISTRY
from pydantic import SecretStr
from sqlalchemy import text

from app.main import create_app
from app.settings import Settings
from kit.tests.support.collector import Collector, Received, open_collector
from kit.tests.support.lines import heard_lines
from kit.tests.support.shortcuts import hide_shortcuts
from kit.tests.support.tracing import untouched_tracing
from slipway_kit.config.server import ServerSettings
from slipway_kit.db.sessions import ReadSessionDep
from slipway_kit.db.settings import DatabaseSettings
from slipway_kit.http.docs_pages import ASSETS
from slipway_kit.http.probes import PROBES
from slipway_kit.service.resources import ResourcesDep
from slipway_kit.tracing.provider import Traces, trace_client

router = APIRouter(prefix="/traced")


def span(name: str) -> AbstractContextManager[trace.Span]:
    # Not kept: what it returns stays with the first provider of the process.
    return trace.get_tracer(__name__).start_as_current_span(name)


def step(name: str) -> None:
    with span(name):
        pass


async def later() -> None:
    step("in a task")


@router.get("/things/{name}")
async def thing(name: str, session: ReadSessionDep) -> str:
    await session.execute(text("SELECT CAST(:name AS text)"), {"name": name})
    return name


@router.get("/steps")
def steps(background: BackgroundTasks) -> None:
    background.add_task(step, "after the answer")
    step("in the thread")


@router.get("/spawn")
async def spawn(resources: ResourcesDep) -> None:
    resources.tasks.spawn(later)


@router.get("/broken")
async def broken() -> None:
    raise ZeroDivisionError("nobody handles this")


@router.get("/refused/{status}")
async def refused(status: int) -> None:
    raise HTTPException(status)


@router.websocket("/sockets/{name}")
async def converse(name: str, socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text(name)


class Traced:
    """The running service and the collector of its spans."""

    def __init__(self, client: TestClient, collector: Collector, *, by: str) -> None:
        # `by` is the instrumentation scope of the spans of requests.
        self.client, self.collector, self.by = client, collector, by

    def received(self) -> list[Received]:
        self.flush()
        return self.collector.received

    def flush(self) -> None:
        provider = trace.get_tracer_provider()
        assert isinstance(provider, TracerProvider)
        provider.force_flush()


@pytest.fixture(scope="module", params=["as installed", "without shortcuts", "by FastAPI"])
def _service(migrated_url: str, request: pytest.FixtureRequest) -> Iterator[Traced]:
    with (
        pytest.MonkeyPatch.context() as patch,
        open_collector() as collector,
        untouched_tracing(),
    ):
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        patch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.3")
        patch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "60000")
        if request.param != "as installed":
            hide_shortcuts(patch)
        app = create_app(
            Settings(
                server=ServerSettings(metrics_port=0),
                database=DatabaseSettings(url=SecretStr(migrated_url)),
            )
        )
        if request.param == "by FastAPI":
            let_fastapi_trace(app)
        app.include_router(router, prefix="/api/v1")
        with TestClient(app, raise_server_exceptions=False) as client:
            client.get("/api/v1/traced/things/first")
            by = "fastapi" if request.param == "by FastAPI" else "slipway_kit.http"
            yield Traced(client, collector, by=by)


def let_fastapi_trace(app: FastAPI) -> None:
    """Have FastAPI's own telemetry make the spans of requests, and `ObservationMiddleware` none."""
    untraced = PROBES | ASSETS
    theirs = FastAPI(
        telemetry={
            "metrics": False,
            "logs": False,
            "operation_spans": False,
            "auto_configure": False,
            "exclude": lambda scope: scope["path"] in untraced,
        }
    )
    app._telemetry, app._native_telemetry = theirs._telemetry, theirs._native_telemetry
    (observation,) = (each for each in app.user_middleware if each.kwargs.get("traces"))
    observation.kwargs["traces"] = Traces()


@pytest.fixture
def traced(_service: Traced) -> Iterator[Traced]:
    _service.flush()
    _service.collector.received.clear()
    yield _service
    _service.collector.mode = "ok"


@pytest.mark.parametrize(
    ("path", "name", "status", "error"),
    [
        ("/api/v1/traced/things/a", "GET /api/v1/traced/things/{name}", 200, None),
        ("/api/v1/traced/refused/409", "GET /api/v1/traced/refused/{status}", 409, None),
        ("/api/v1/traced/refused/no", "GET /api/v1/traced/refused/{status}", 422, None),
        ("/api/v1/traced/refused/503", "GET /api/v1/traced/refused/{status}", 503, "503"),
        ("/api/v1/traced/broken", "GET /api/v1/traced/broken", 500, "500"),
        ("/no/such/path", "GET", 404, None),
    ],
)
def test_a_request_is_exactly_one_server_span(
    traced: Traced, path: str, name: str, status: int, error: str | None
) -> None:
    assert traced.client.get(path).status_code == status
    (span,) = [span for span in traced.received() if span.kind == "SERVER"]
    assert (span.name, span.failed) == (name, error is not None)
    found = span.attributes
    assert found["http.request.method"] == "GET"
    assert found["http.response.status_code"] == status
    assert found["url.path"] == path
    assert found.get("http.route") == (name.removeprefix("GET ") if "/" in name else None)
    assert found.get("error.type") == error


def test_a_scope_is_a_package_that_a_stranger_finds(traced: Traced) -> None:
    traced.client.get("/api/v1/traced/things/a")
    statement, server = traced.received()
    assert (statement.scope, server.scope) == ("slipway_kit.db", traced.by)
    assert all(hasattr(import_module(span.scope), "__path__") for span in (statement, server))


def test_a_bug_records_its_exception(traced: Traced) -> None:
    traced.client.get("/api/v1/traced/broken")
    (span,) = traced.received()
    (event,) = span.events
    assert (event["name"], event["exception.type"]) == ("exception", "ZeroDivisionError")
    assert event["exception.message"] == "nobody handles this"
    assert "Traceback" in event["exception.stacktrace"]


def test_probes_make_no_spans(traced: Traced) -> None:
    assert [traced.client.get(probe).status_code for probe in sorted(PROBES)] == [200] * 4
    assert not traced.received()


def test_the_files_of_the_docs_make_no_spans_and_their_pages_one_each(traced: Traced) -> None:
    assert {traced.client.get(file).status_code for file in sorted(ASSETS)} == {200}
    assert not traced.received()
    traced.client.get("/docs")
    assert [span.name for span in traced.received()] == ["GET /docs"]


def test_a_websocket_is_one_span(traced: Traced) -> None:
    with traced.client.websocket_connect("/api/v1/traced/sockets/a") as socket:
        assert socket.receive_text() == "a"
    (span,) = traced.received()
    assert (span.name, span.kind) == ("WS /api/v1/traced/sockets/{name}", "SERVER")
    assert not span.failed


def test_the_statement_of_a_request_is_its_child(traced: Traced) -> None:
    traced.client.get("/api/v1/traced/things/a")
    statement, server = traced.received()
    assert (statement.name, statement.kind) == ("SELECT migrated", "CLIENT")
    assert statement.trace_id == server.trace_id
    assert statement.parent_id == server.span_id
    assert server.parent_id == ""


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/api/v1/traced/steps", {"in the thread", "after the answer"}),
        ("/api/v1/traced/spawn", {"in a task"}),
    ],
)
def test_threads_background_tasks_and_spawned_ones_stay_in_the_trace(
    traced: Traced, path: str, names: set[str]
) -> None:
    assert traced.client.get(path).status_code == 200
    found = traced.received()
    (server,) = [span for span in found if span.kind == "SERVER"]
    children = {span.name: (span.trace_id, span.parent_id) for span in found if span != server}
    assert children == dict.fromkeys(names, (server.trace_id, server.span_id))


def test_the_trace_of_the_caller_goes_on(traced: Traced) -> None:
    parent = "00-" + "1" * 32 + "-" + "2" * 16 + "-01"
    traced.client.get("/api/v1/traced/things/a", headers={"traceparent": parent})
    found = traced.received()
    assert {span.trace_id for span in found} == {"1" * 32}
    assert found[-1].parent_id == "2" * 16


def test_what_the_caller_does_not_record_is_not_recorded(traced: Traced) -> None:
    parent = "00-" + "1" * 32 + "-" + "2" * 16 + "-00"
    traced.client.get("/api/v1/traced/things/a", headers={"traceparent": parent})
    assert not traced.received()


_HEADER = st.one_of(
    st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f")),
    st.from_regex(r"\A[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?\Z").filter(
        lambda header: header.isprintable() and header.isascii()
    ),
    st.sampled_from(["00-" + "0" * 32 + "-" + "2" * 16 + "-01", "a=b," * 600, " " * 8000 + ",="]),
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(parent=_HEADER, state=_HEADER, baggage=_HEADER)
def test_headers_that_make_no_sense_do_no_harm(
    traced: Traced, parent: str, state: str, baggage: str
) -> None:
    traced.collector.received.clear()
    sent = {b"traceparent": parent, b"tracestate": state, b"baggage": baggage}
    headers = {name: header.strip().encode("latin-1") for name, header in sent.items()}
    answer = traced.client.get("/api/v1/traced/refused/409", headers=headers)
    assert answer.status_code == 409
    recorded = [span for span in traced.received() if span.kind == "SERVER"]
    # A caller may ask not to be recorded, by an even number at the end.
    assert len(recorded) <= 1


def test_the_process_describes_itself(traced: Traced) -> None:
    traced.client.get("/api/v1/traced/things/a")
    resource = traced.received()[0].resource
    assert resource["service.name"]
    assert resource["service.version"] == "0.1.0"
    assert resource["deployment.environment.name"] == "development"
    assert len(resource["service.instance.id"]) == 36


def test_exports_are_compressed_when_asked_and_share_a_connection(traced: Traced) -> None:
    connections = traced.collector.connections
    for _ in range(5):
        traced.client.get("/api/v1/traced/things/a")
        traced.flush()
    assert len(traced.collector.servers()) == 5
    assert traced.collector.headers[-1]["Content-Encoding"] == "gzip"
    assert traced.collector.connections - connections <= 1


@pytest.mark.parametrize(
    ("mode", "outcome"),
    [
        ("400", "failed"),
        ("404", "failed"),
        ("500", "failed"),
        ("503", "failed"),
        ("redirect", "failed"),
        ("redirect to nowhere", "failed"),
        ("garbage", "failed"),
        ("reset", "failed"),
        ("hang", "failed"),
        ("endless", "exported"),
    ],
)
def test_a_collector_that_misbehaves_costs_spans_and_nothing_else(
    traced: Traced, mode: str, outcome: str
) -> None:
    before = counted(outcome)
    traced.collector.mode = mode
    assert traced.client.get("/api/v1/traced/refused/409").status_code == 409
    with impatient() if outcome == "failed" else nullcontext():
        traced.flush()
    assert counted(outcome) - before == 1
    traced.collector.mode = "ok"
    assert traced.client.get("/api/v1/traced/refused/410").status_code == 410
    assert [span.attributes["http.response.status_code"] for span in traced.received()] == [410]


@contextmanager
def impatient() -> Iterator[None]:
    """Give up a collector that will not answer soon; all others have half a minute to answer."""
    export = OTLPSpanExporter.export

    def export_soon(self: Any, spans: Any) -> SpanExportResult:
        before, self._timeout = self._timeout, 0.3
        try:
            return export(self, spans)
        finally:
            self._timeout = before

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OTLPSpanExporter, "export", export_soon)
        yield


def test_a_collector_that_fails_for_long_is_a_line_a_minute(
    traced: Traced,
) -> None:
    traced.collector.mode = "413"
    with heard_lines() as heard:
        for _ in range(20):
            traced.client.get("/api/v1/traced/refused/409")
            traced.flush()
    assert len([line for line in heard if "Failed to export" in line]) <= 1


def counted(outcome: str) -> float:
    return REGISTRY.get_sample_value("otel_spans_total", {"outcome": outcome}) or 0


@pytest.mark.anyio
async def test_a_call_to_another_service_is_a_span_and_takes_the_trace_along(
    traced: Traced,
) -> None:
    arrived: list[str] = []

    def upstream(request: httpx.Request) -> httpx.Response:
        arrived.append(request.headers["traceparent"])
        return httpx.Response(503)

    async with httpx.AsyncClient(transport=httpx.MockTransport(upstream)) as client:
        trace_client(client)
        with span("request") as request:
            await client.get("http://prices.example/api/v1/prices?game=7")
    call, parent = traced.received()
    assert [header.rpartition("-")[0] for header in arrived] == [
        f"00-{call.trace_id}-{call.span_id}"
    ]
    assert call.parent_id == parent.span_id == f"{request.get_span_context().span_id:016x}"
    assert (call.name, call.kind, call.failed) == ("GET", "CLIENT", True)
    assert call.attributes["http.request.method"] == "GET"
    assert call.attributes["http.response.status_code"] == 503
    assert call.attributes["server.address"] == "prices.example"
    assert call.attributes["error.type"] == "503"
    assert "http.method" not in call.attributes
