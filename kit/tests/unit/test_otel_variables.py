"""Whatever a platform puts into OTEL_ variables, spans are sent or traces are off."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry import environment_variables as api
from opentelemetry.sdk import environment_variables as sdk
from opentelemetry.util import http
from structlog.testing import capture_logs

from kit.tests.support.collector import Collector, open_collector
from kit.tests.support.paths import SERVICE
from kit.tests.support.tracing import SCOPE, untouched_tracing
from slipway_kit.config.group import read
from slipway_kit.otel_variables import settle
from slipway_kit.tracing.provider import Traces, open_tracing, recording, trace_client
from slipway_kit.tracing.settings import TracingSettings

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
COLLECTOR = "http://collector:4318"
# Every one that the installed packages read.
VARIABLES = sorted(
    {
        value
        for module in (api, sdk, http)
        for value in vars(module).values()
        if isinstance(value, str) and value.startswith("OTEL_")
    }
    | {"OTEL_PYTHON_EXCLUDED_URLS", "OTEL_PYTHON_HTTPX_EXCLUDED_URLS"}
    | {"OTEL_SEMCONV_STABILITY_OPT_IN", "OTEL_SOMETHING_NEW"}
)
GARBAGE = [
    *("", " ", ",", "nonsense", "grpc", "-1", "0", "10000", "1.5", "nan", "inf", "9" * 5000),
    *("a=b,c", "a=%0d%0a", "a=é", "=", "(", "a{99999999999}", "*", "none", "true", "\udcff"),
    *("/missing/file", "http://[::1", "http://secret@collector:port", "tracecontext,b3"),
]
# Says that a limit of 0 is honoured.
TRUNCATIONS = "opentelemetry.attributes"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with open_collector() as opened:
        yield opened


@pytest.mark.anyio
@pytest.mark.parametrize("name", VARIABLES)
async def test_whatever_a_variable_holds_spans_are_sent_or_traces_are_off(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    collector: Collector,
    name: str,
) -> None:
    seen = [{ENDPOINT: collector.url}]
    for value in GARBAGE:
        environment = {ENDPOINT: collector.url, name: value}
        notes = settle(environment)
        assert len(notes) <= 1
        assert all(note.startswith(name) and note.endswith(".") for note in notes)
        assert not [note for note in notes if "secret" in note]
        off = environment.get("OTEL_TRACES_EXPORTER") == "none" or ENDPOINT not in environment
        off |= environment.get("OTEL_SDK_DISABLED") == "true"
        asked_for = value.strip() in {"", "none"} or "OTEL_SDK_DISABLED" in environment
        assert not off or asked_for or notes, value
        if environment in seen:
            continue
        seen.append(environment)
        with monkeypatch.context() as patch, capture_logs() as logged:
            for settled, to in environment.items():
                patch.setenv(settled, to)
            sent = await spans_sent(collector)
        assert sent == (0 if off else 1), value
        # OpenTelemetry has nothing to add.
        others = [line.getMessage() for line in caplog.records if line.name != TRUNCATIONS]
        assert [*others, *logged] == [], value


async def spans_sent(collector: Collector) -> int:
    before = len(collector.servers())
    settings, traces = read(TracingSettings), Traces()
    with untouched_tracing():
        async with open_tracing(settings, traces, service={}, flush_seconds=5):
            assert recording() is settings.enabled
            transport = httpx.MockTransport(lambda _: httpx.Response(200))
            async with httpx.AsyncClient(transport=transport) as client:
                trace_client(client)
                await client.get("http://upstream/", headers={"X-A": "a"})
            if traces.spans is not None:
                span = traces.spans.open(SCOPE, {}, "1" * 48)
                assert span is not None
                span.close(SCOPE, route="/a", status=200, error=None)
    return len(collector.servers()) - before


WRONG = {
    "OTEL_EXPORTER_OTLP_PROTOCOL": (
        "grpc",
        "is not http/protobuf, which collectors expect on port 4318: no traces are sent.",
    ),
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": (
        "collector:4317",
        "is no URL like http://collector:4318: no traces are sent.",
    ),
    "OTEL_EXPORTER_OTLP_CERTIFICATE": (
        "/missing",
        "is no file of certificates that can be read: no traces are sent.",
    ),
    "OTEL_TRACES_EXPORTER": ("jaeger", "names more than otlp: nothing is sent by that."),
    "OTEL_TRACES_SAMPLER": (
        "ratio",
        "names no sampler of the SDK: parentbased_always_on is used.",
    ),
    "OTEL_TRACES_SAMPLER_ARG": ("10", "is no share from 0 to 1: 1 is used."),
    "OTEL_EXPORTER_OTLP_TIMEOUT": (
        "10000",
        "is no number of seconds up to 300: the default is used.",
    ),
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": (
        "4096",
        "is more than the queue holds: batches of that many are sent.",
    ),
    "OTEL_PYTHON_ID_GENERATOR": ("xray", "is not random: ids are random all the same."),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_honoured_is_one_sentence(name: str) -> None:
    value, sentence = WRONG[name]
    environment = {ENDPOINT: COLLECTOR, name: value}
    assert settle(environment) == [f"{name} {sentence}"]
    assert settle(environment) == []


@pytest.mark.parametrize(
    ("name", "value", "settled"),
    [
        ("OTEL_PROPAGATORS", "tracecontext, b3,", "tracecontext"),
        ("OTEL_PROPAGATORS", "b3", None),
        ("OTEL_TRACES_EXPORTER", "otlp,console", "otlp"),
        ("OTEL_TRACES_SAMPLER", "Always_On", "always_on"),
        ("OTEL_EXPORTER_OTLP_HEADERS", 'a=b,c="d",e=%0a, f = g', "a=b,f = g"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a=b,c,=d,e=", "a=b,e="),
        ("OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SANITIZE_FIELDS", "(", ".*"),
    ],
)
def test_what_is_right_of_a_value_is_kept(name: str, value: str, settled: str | None) -> None:
    environment = {ENDPOINT: COLLECTOR, name: value}
    settle(environment)
    assert environment.get(name) == settled


def test_a_small_queue_alone_is_honoured() -> None:
    environment = {ENDPOINT: COLLECTOR, "OTEL_BSP_MAX_QUEUE_SIZE": "100"}
    assert settle(environment) == []
    assert environment["OTEL_BSP_MAX_EXPORT_BATCH_SIZE"] == "100"


def test_a_client_certificate_needs_its_key(tmp_path: Path) -> None:
    (tmp_path / "certificate").write_text("none")
    environment = {
        ENDPOINT: COLLECTOR,
        "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": str(tmp_path / "certificate"),
    }
    assert len(settle(environment)) == 1
    assert environment["OTEL_TRACES_EXPORTER"] == "none"


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {ENDPOINT: ""},
        {ENDPOINT: COLLECTOR, "OTEL_SDK_DISABLED": " TRUE "},
        {ENDPOINT: "collector:4317", "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_nothing_is_said_where_nobody_wants_traces(environment: dict[str, str]) -> None:
    wrong = {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_PROPAGATORS": "b3"}
    assert settle({**wrong, **environment}) == []


def test_what_is_no_otel_variable_is_left_alone() -> None:
    environment: dict[str, Any] = {"LOG_LEVEL": " ", "MYOTEL_A": ""}
    settle(environment)
    assert environment == {"LOG_LEVEL": " ", "MYOTEL_A": ""}


def test_the_service_is_imported_whatever_opentelemetry_would_refuse() -> None:
    program = "import app.main; from opentelemetry import trace; trace.get_tracer_provider()"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=SERVICE,
        env={"PATH": os.environ["PATH"], **dict.fromkeys(VARIABLES, "grpc (")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
