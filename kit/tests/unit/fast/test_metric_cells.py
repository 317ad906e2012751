"""Metrics written in place are those of the instrumentator, value for value."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_fastapi_instrumentator import metrics as instrumentator

from kit.tests.support.metrics import restored_metrics
from slipway_kit.fast import metric_cells
from slipway_kit.http.records import Records
from slipway_kit.metrics import files, instruments

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


def metrics_in_place() -> Records:
    metrics = Records(CollectorRegistry())
    vars(metrics)["counter"] = partial(metric_cells._counter, metrics)
    return metrics


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(requests=REQUESTS)
def test_what_is_written_in_place_is_what_the_instrumentator_counts(
    tmp_path_factory: pytest.TempPathFactory, requests: list[tuple[str, str, int, float, int, int]]
) -> None:
    texts = []
    for direct in (True, False):
        folder = tmp_path_factory.mktemp("metrics")
        with restored_metrics():
            files.install(files.SlotIdentity(), folder)
            metrics = metrics_in_place() if direct else Records(CollectorRegistry())
            for method, handler, status, seconds, received, sent in requests:
                counted = metrics.of(method=method, handler=handler, status=status)
                assert ("direct" in counted.__qualname__) is direct
                counted(seconds, received, sent)
            texts.append(exposed(folder))
    assert texts[0] == texts[1]
    assert ("http_requests_total{" in texts[0]) is bool(requests)


def test_a_file_that_grows_is_written_where_it_is_read(folder: Path) -> None:
    metrics = metrics_in_place()
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
    metrics = metrics_in_place()
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


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(amounts=st.lists(st.floats(0, 10) | st.just(0.25), max_size=20))
def test_an_observer_writes_what_the_histogram_would(
    tmp_path_factory: pytest.TempPathFactory, amounts: list[float]
) -> None:
    texts = []
    for observer in (metric_cells.observer, lambda histogram: histogram.observe):
        folder = tmp_path_factory.mktemp("metrics")
        with restored_metrics():
            files.install(files.SlotIdentity(), folder)
            made = Histogram("h", "some", ["kind"], registry=CollectorRegistry(), buckets=(0.25, 1))
            observe = observer(made.labels("x"))
            assert (observe == made.labels("x").observe) == (observer is not metric_cells.observer)
            for amount in amounts:
                observe(amount)
        texts.append(exposed(folder))
    assert texts[0] == texts[1]


def test_where_metrics_are_in_memory_the_histogram_observes_itself() -> None:
    registry = CollectorRegistry()
    histogram = Histogram("h", "some", registry=registry)
    metric_cells.observer(histogram)(2.0)
    assert registry.get_sample_value("h_sum") == 2.0
    assert registry.get_sample_value("h_count") == 1


def test_one_process_alone_counts_in_memory() -> None:
    metrics = metrics_in_place()
    counted = metrics.of(method="GET", handler="/a", status=404)
    assert counted.__qualname__.startswith("Records.counter")


def test_cells_are_given_and_taken_back() -> None:
    metrics = Records(CollectorRegistry())
    own = metrics.counter
    assert metric_cells.supported()
    metric_cells.enable(metrics)
    assert metrics.counter != own
    assert instruments.observer is metric_cells.observer
    metric_cells.disable()
    assert metrics.counter == own
    assert instruments.observer is not metric_cells.observer


@pytest.mark.parametrize(("owner", "name"), [(Histogram, "observe"), (instrumentator, "default")])
def test_libraries_that_count_otherwise_are_not_supported(
    owner: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(self: object, amount: float) -> None:
        """Count in some other way."""

    monkeypatch.setattr(owner, name, other)
    assert not metric_cells.supported()
