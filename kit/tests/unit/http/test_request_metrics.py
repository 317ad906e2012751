"""Metrics written in place are those of the instrumentator, value for value."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from kit.tests.support.metrics import restored_metrics
from slipway_kit.http import request_metrics
from slipway_kit.http.request_metrics import RequestMetrics
from slipway_kit.metrics import files

REQUESTS = st.lists(
    st.tuples(
        st.sampled_from(["GET", "POST", "PROPFIND"]),
        st.sampled_from(["/a", "/a/{b}", "none"]),
        st.sampled_from([200, 201, 404, 503]),
        st.floats(0, 100),
        st.integers(0, 2**40),
        st.integers(0, 2**40),
    ),
    max_size=30,
)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where a master would have the files of its workers."""
    with restored_metrics():
        files.install(files.SlotIdentity(), tmp_path)
        yield tmp_path


def exposed(folder: Path) -> str:
    """Return what the exporter would serve."""
    registry = CollectorRegistry()
    files.SafeCollector(registry, path=str(folder))  # type: ignore[no-untyped-call]  # the package has few types
    return generate_latest(registry).decode()


def unknown(_: object) -> None:
    """Stand for libraries of another shape."""
    raise KeyError("LATENCY_HIGHR")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(requests=REQUESTS)
def test_what_is_written_in_place_is_what_the_instrumentator_counts(
    tmp_path_factory: pytest.TempPathFactory, requests: list[tuple[str, str, int, float, int, int]]
) -> None:
    texts = []
    for direct in (True, False):
        folder = tmp_path_factory.mktemp("metrics")
        with restored_metrics(), pytest.MonkeyPatch.context() as patch:
            files.install(files.SlotIdentity(), folder)
            metrics = RequestMetrics(CollectorRegistry())
            if not direct:
                patch.setattr(request_metrics, "getclosurevars", unknown)
            for method, handler, status, seconds, received, sent in requests:
                counted = metrics.of(method=method, handler=handler, status=status)
                assert ("direct" in counted.__qualname__) is direct
                counted(seconds, received, sent)
            texts.append(exposed(folder))
    assert texts[0] == texts[1]
    assert ("http_requests_total{" in texts[0]) is bool(requests)


def test_a_file_that_grows_is_written_where_it_is_read(folder: Path) -> None:
    metrics = RequestMetrics(CollectorRegistry())
    first = metrics.of(method="GET", handler="/first", status=200)
    for number in range(400):
        metrics.of(method="GET", handler=f"/{number:0100}", status=200)(0.1, 1, 1)
    (histograms,) = folder.glob("histogram_*.db")
    assert histograms.stat().st_size > files.FILE_BYTES
    first(0.1, 7, 7)
    last = metrics.of(method="GET", handler="/last", status=200)
    last(0.1, 1, 1)
    text = exposed(folder)
    assert 'http_request_size_bytes_sum{handler="/first"} 7.0' in text
    assert 'http_requests_total{handler="/last",method="GET",status="2xx"} 1.0' in text
    assert "http_request_duration_highr_seconds_count 402.0" in text


def test_series_that_the_volume_has_no_room_for_are_dropped_and_the_others_go_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = RequestMetrics(CollectorRegistry())
    old = metrics.of(method="GET", handler="/old", status=200)

    def full(descriptor: int, size: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "_allocate", full)
    for number in range(400):
        metrics.of(method="GET", handler=f"/{number:0100}", status=200)(0.1, 1, 1)
    old(0.1, 1, 1)
    text = exposed(folder)
    assert 'http_requests_total{handler="/old",method="GET",status="2xx"} 1.0' in text
    assert f'handler="/{399:0100}"' not in text


def test_one_process_alone_counts_in_memory() -> None:
    registry = CollectorRegistry()
    counted = RequestMetrics(registry).of(method="GET", handler="/a", status=404)
    counted(0.2, 3, 4)
    labels = {"method": "GET", "handler": "/a", "status": "4xx"}
    assert registry.get_sample_value("http_requests_total", labels) == 1
    assert registry.get_sample_value("http_request_size_bytes_sum", {"handler": "/a"}) == 3
    assert registry.get_sample_value("http_response_size_bytes_sum", {"handler": "/a"}) == 4


@pytest.mark.parametrize(("method", "handler"), [("GET", "/readyz"), ("WEBSOCKET", "/till")])
def test_probes_and_sockets_are_not_counted(method: str, handler: str) -> None:
    registry = CollectorRegistry()
    RequestMetrics(registry).of(method=method, handler=handler, status=200)(1, 1, 1)
    labels = {"method": method, "handler": handler, "status": "2xx"}
    assert registry.get_sample_value("http_requests_total", labels) is None
    assert registry.get_sample_value("http_request_duration_highr_seconds_count") == 0


def test_methods_that_nobody_knows_are_one_series() -> None:
    registry = CollectorRegistry()
    metrics = RequestMetrics(registry)
    for method in ("PROPFIND", "get", "X" * 1000):
        metrics.of(method=method, handler="/a", status=405)(0.1, 0, 0)
    labels = {"method": "other", "handler": "/a", "status": "4xx"}
    assert registry.get_sample_value("http_requests_total", labels) == 3
