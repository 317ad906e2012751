"""What is supported is enabled, told and counted; the rest is left to the libraries."""

import sys
from collections.abc import Iterator

import fastapi.dependencies
import pytest
from fastapi import FastAPI
from prometheus_client import REGISTRY, CollectorRegistry
from structlog.testing import capture_logs

from slipway_kit import fast
from slipway_kit.fast import fastapi_memo, metric_cells, span_bytes
from slipway_kit.http.records import Records
from slipway_kit.logs.setup import LogSetup
from slipway_kit.runtime import runtime_of
from slipway_kit.tracing.provider import Traces

pytestmark = pytest.mark.usefixtures("restored_logs")
ALWAYS = {"fastapi_memo", "middleware_stack", "metric_cells"}
TRACED = {"light_span", "span_bytes"}


@pytest.fixture
def app() -> Iterator[FastAPI]:
    made = FastAPI()
    for part in (Records(CollectorRegistry()), Traces(), LogSetup(level="INFO", json=False)):
        runtime_of(made).add(part)
    yield made
    metric_cells.disable()
    fastapi_memo.disable()
    span_bytes.disable()


def enabled(name: str) -> float | None:
    return REGISTRY.get_sample_value("fast_path_enabled", {"name": name})


@pytest.mark.parametrize(
    ("json", "traced", "expected"),
    [
        (True, True, ALWAYS | TRACED | {"request_records"}),
        (True, False, ALWAYS | {"request_records"}),
        (False, True, ALWAYS | TRACED),
    ],
)
def test_all_that_the_settings_have_use_for_is_enabled(
    app: FastAPI, json: bool, traced: bool, expected: set[str]
) -> None:
    runtime_of(app).add(Traces(enabled=traced))
    runtime_of(app).add(LogSetup(level="INFO", json=json, traces=traced)).apply()
    found = fast.install(app)
    assert found == dict.fromkeys(expected, True)
    assert {enabled(name) for name in expected} == {1}


def test_what_is_not_supported_is_off_and_named(
    app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metric_cells, "supported", lambda: False)
    records = runtime_of(app).get(Records)
    own = records.counter
    with capture_logs() as logged:
        fast.install(app)
    (line,) = logged
    assert (line["event"], line["off"]) == ("fast paths", ["metric_cells"])
    assert {"fastapi_memo", "middleware_stack"} <= set(line["on"])
    assert (enabled("metric_cells"), enabled("fastapi_memo")) == (0, 1)
    assert records.counter == own


def test_a_shortcut_that_imports_what_is_gone_is_off(
    app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "slipway_kit.fast.fastapi_memo")
    monkeypatch.setitem(sys.modules, "fastapi.dependencies.utils", None)
    monkeypatch.delattr(fastapi.dependencies, "utils")
    found = fast.install(app)
    assert found["fastapi_memo"] is False
    assert found["metric_cells"] is True
