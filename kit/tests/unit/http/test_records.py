"""Requests are counted by the instrumentator's own function."""

import pytest
from prometheus_client import CollectorRegistry

from slipway_kit.http.records import Records


def test_a_request_is_counted_with_its_bytes() -> None:
    registry = CollectorRegistry()
    counted = Records(registry).of(method="GET", handler="/a", status=404)
    counted(0.2, 3, 4)
    labels = {"method": "GET", "handler": "/a", "status": "4xx"}
    assert registry.get_sample_value("http_requests_total", labels) == 1
    assert registry.get_sample_value("http_request_size_bytes_sum", {"handler": "/a"}) == 3
    assert registry.get_sample_value("http_response_size_bytes_sum", {"handler": "/a"}) == 4


@pytest.mark.parametrize(("method", "handler"), [("GET", "/readyz"), ("WEBSOCKET", "/till")])
def test_probes_and_sockets_are_not_counted(method: str, handler: str) -> None:
    registry = CollectorRegistry()
    Records(registry).of(method=method, handler=handler, status=200)(1, 1, 1)
    labels = {"method": method, "handler": handler, "status": "2xx"}
    assert registry.get_sample_value("http_requests_total", labels) is None
    assert registry.get_sample_value("http_request_duration_highr_seconds_count") == 0


def test_unknown_methods_share_one_series() -> None:
    registry = CollectorRegistry()
    metrics = Records(registry)
    for method in ("PROPFIND", "get", "X" * 1000):
        metrics.of(method=method, handler="/a", status=405)(0.1, 0, 0)
    labels = {"method": "other", "handler": "/a", "status": "4xx"}
    assert registry.get_sample_value("http_requests_total", labels) == 3
