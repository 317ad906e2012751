import asyncio
import json
import logging
import os
import subprocess
import sys
from typing import Any

import anyio
import pytest
import structlog
from opentelemetry import propagate, trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from structlog.testing import capture_logs

from kit.tests.support.paths import SERVICE
from kit.tests.support.tracing import untouched_tracing
from slipway_kit.concurrency.tasks import Tasks
from slipway_kit.config.group import read
from slipway_kit.logs import setup as logs
from slipway_kit.trace_context import carrier, continued
from slipway_kit.tracing.provider import Traces, open_tracing, recording
from slipway_kit.tracing.settings import TracingSettings

PARENT = SpanContext(0xA, 0xB, is_remote=False, trace_flags=TraceFlags(1))
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
COLLECTOR = "http://collector:4318"


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {ENDPOINT: ""},
        {ENDPOINT: COLLECTOR, "OTEL_SDK_DISABLED": "true"},
        {ENDPOINT: COLLECTOR, "OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
    ],
)
def test_there_are_no_traces_unless_there_is_an_endpoint(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    assert not with_environment(monkeypatch, environment).enabled


@pytest.mark.parametrize(
    "environment",
    [
        {ENDPOINT: COLLECTOR},
        {TRACES_ENDPOINT: "https://collector.example/v1/traces"},
        {ENDPOINT: "nonsense", TRACES_ENDPOINT: COLLECTOR},
        {ENDPOINT: COLLECTOR, "OTEL_SDK_DISABLED": "false", "OTEL_SOMETHING_NEW": "1"},
    ],
)
def test_one_endpoint_is_enough(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    assert with_environment(monkeypatch, environment).enabled


def with_environment(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> TracingSettings:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return read(TracingSettings)


@pytest.mark.anyio
async def test_without_an_endpoint_nothing_is_opened() -> None:
    async with open_tracing(TracingSettings(), Traces(), service={}, flush_seconds=1):
        assert not recording()


WITHOUT_TRACES = """
import asyncio, sys, threading
from slipway_kit.config.server import ServerSettings
from app.main import create_app
from app.settings import Settings
from slipway_kit.server.watchdog import WatchdogSettings

async def serve():
    server, watchdog = ServerSettings(metrics_port=0), WatchdogSettings(stall_seconds=0)
    app = create_app(Settings(server=server, watchdog=watchdog))
    async with app.router.lifespan_context(app):
        assert not app._native_telemetry.enabled()
        assert threading.active_count() == 1
asyncio.run(serve())
loaded = ("opentelemetry.sdk", "opentelemetry.exporter", "opentelemetry.instrumentation")
assert not [name for name in sys.modules if name.startswith((*loaded, "requests", "urllib3"))]
"""


def test_without_an_endpoint_nothing_of_the_sdk_is_imported_and_no_thread_runs() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TRACES],
        cwd=SERVICE,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("variable", "value"),
    [("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "many"), ("OTEL_BSP_MAX_QUEUE_SIZE", "100")],
)
async def test_settings_that_the_sdk_refuses_cost_the_traces_and_not_the_service(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    settings = TracingSettings(exporter_otlp_endpoint=COLLECTOR)
    with untouched_tracing(), capture_logs() as logged:
        async with open_tracing(settings, Traces(), service={}, flush_seconds=1):
            assert not recording()
    assert [line["event"] for line in logged] == [
        "tracing is off: the OpenTelemetry SDK rejected its settings"
    ]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("propagators", "read_too"), [(None, False), ("tracecontext,baggage", True)]
)
async def test_baggage_of_strangers_is_read_when_asked_for_alone(
    monkeypatch: pytest.MonkeyPatch, propagators: str | None, read_too: bool
) -> None:
    if propagators:
        monkeypatch.setenv("OTEL_PROPAGATORS", propagators)
    settings = TracingSettings(exporter_otlp_endpoint=COLLECTOR)
    with untouched_tracing():
        async with open_tracing(settings, Traces(), service={}, flush_seconds=1):
            assert recording()
            assert ("baggage" in propagate.get_global_textmap().fields) is read_too


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


def say(where: str) -> None:
    structlog.get_logger().info("ours", where=where)
    logging.getLogger("library").info("theirs")


@pytest.mark.anyio
@pytest.mark.usefixtures("restored_logs")
async def test_every_line_of_a_trace_names_it_wherever_it_is_written(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.LogSetup(level="INFO", json=True, traces=True).apply()
    tasks = Tasks()

    async def later() -> None:
        say("task")

    with trace.use_span(NonRecordingSpan(PARENT)):
        say("loop")
        await anyio.to_thread.run_sync(say, "anyio's thread")
        await asyncio.to_thread(say, "asyncio's thread")
        tasks.spawn(later)
    await tasks.drain(grace_seconds=1)
    lines = written(capsys)
    assert [line.get("where") for line in lines if "where" in line] == [
        "loop",
        "anyio's thread",
        "asyncio's thread",
        "task",
    ]
    assert len(lines) == 8
    assert {(line["trace_id"], line["span_id"]) for line in lines} == {
        ("0000000000000000000000000000000a", "000000000000000b")
    }


@pytest.mark.parametrize("traces", [True, False])
@pytest.mark.usefixtures("restored_logs")
def test_a_line_without_a_trace_has_no_key_for_it(
    capsys: pytest.CaptureFixture[str], traces: bool
) -> None:
    logs.LogSetup(level="INFO", json=True, traces=traces).apply()
    say("nowhere")
    if not traces:
        with trace.use_span(NonRecordingSpan(PARENT)):
            say("in a trace that nobody asked for")
    assert not [line for line in written(capsys) if {"trace_id", "span_id"} & line.keys()]


def written(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]
