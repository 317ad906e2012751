"""Spans of real workers at a real collector: each arrives once, and a bad one costs nothing."""

import secrets
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from typing import Any

import pytest

from kit.tests.runtime.conftest import Start
from kit.tests.runtime.harness import Service, ask, connected
from kit.tests.support import ports
from kit.tests.support.collector import Collector, open_collector
from kit.tests.unit.test_otel_variables import VARIABLES
from slipway_kit.testing.waiting import eventually

CLIENTS = 6
# Every request is served, however busy the machine: these tests count spans, not refusals.
PATIENT = {
    "ADMISSION": "off",
    "PROCESS_POOL_TIMEOUT_SECONDS": 10,
    "PROCESS_POOL_WAIT_SECONDS": 10,
    "REQUEST_TIMEOUT_SECONDS": 20,
    "SHUTDOWN_SECONDS": 40,
}


@pytest.fixture
def collector() -> Iterator[Collector]:
    with open_collector() as opened:
        yield opened


class Load:
    """Clients that ask as fast as they can, each request in a trace of its own."""

    def __init__(self, service: Service, path: str = "/scenarios/query") -> None:
        self._service, self._path = service, path
        self.asked: list[str] = []
        self.answered: list[str] = []
        self.over = False

    def run(self, requests: int) -> None:
        with ThreadPoolExecutor(CLIENTS) as pool:
            for done in [pool.submit(self._ask, requests // CLIENTS) for _ in range(CLIENTS)]:
                done.result()

    def run_until(self, something_happened: Callable[[], object]) -> None:
        """Ask until that has happened; a refused or broken connection is tried again."""
        with ThreadPoolExecutor(CLIENTS) as pool:
            clients = [pool.submit(self._ask, 10**6) for _ in range(CLIENTS)]
            try:
                something_happened()
            finally:
                self.over = True
            for client in clients:
                client.result()

    def _ask(self, requests: int) -> None:
        while requests > 0 and not self.over:
            try:
                requests -= self._ask_on_one_connection(requests)
            except (OSError, HTTPException):
                time.sleep(0.02)

    def _ask_on_one_connection(self, requests: int) -> int:
        with connected(self._service.port, timeout=30) as connection:
            for done in range(requests):
                trace = secrets.token_hex(16)
                self.asked.append(trace)
                parent = {"traceparent": f"00-{trace}-{'2' * 16}-01"}
                status, headers, _ = ask(connection, self._path, parent)
                assert status == 200
                self.answered.append(trace)
                if self.over or headers.get("connection") == "close":
                    return done + 1
        return requests


def require_each_once(load: Load, collector: Collector) -> None:
    """Every answered request is one server span with one statement, and nothing is twice."""
    servers = Counter(
        span.trace_id
        for span in collector.servers()
        if span.attributes["http.route"] == "/scenarios/query"
    )
    statements = Counter(
        span.trace_id for span in collector.received if "db.query.text" in span.attributes
    )
    assert set(load.answered) <= servers.keys() <= set(load.asked)
    assert set(servers.values()) == {1}
    assert {statements[trace] for trace in load.answered} == {1}
    assert set(Counter(span.span_id for span in collector.received).values()) == {1}


def test_every_span_arrives_once_when_the_service_is_stopped_under_load(
    start: Start, collector: Collector
) -> None:
    # Nothing is due before the end, except whole batches.
    service = start(
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
        OTEL_BSP_SCHEDULE_DELAY=60_000,
        **PATIENT,
    )
    load, computing = Load(service), Load(service, "/scenarios/compute")
    computing.run(CLIENTS)

    def stopped() -> None:
        eventually(lambda: len(load.answered) > 400)
        service.process.send_signal(signal.SIGTERM)
        assert service.wait_end(seconds=30) == 0

    load.run_until(stopped)
    require_each_once(load, collector)
    assert not service.events("spans lost at shutdown")
    # The second kind of line comes from a process of the pool.
    lines = [*scenarios(service.events("request")), *service.events("computing")]
    assert {(line["trace_id"], line["span_id"]) for line in lines} == {
        (span.trace_id, span.span_id) for span in collector.servers()
    }
    assert len(service.events("computing")) == len(computing.answered) == CLIENTS


def scenarios(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [line for line in lines if line["route"].startswith("/scenarios")]


def test_every_span_arrives_once_while_workers_are_recycled_and_reloaded(
    start: Start, collector: Collector
) -> None:
    service = start(
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
        OTEL_BSP_SCHEDULE_DELAY=60_000,
        MAX_REQUESTS=150,
    )
    load = Load(service)

    def replaced() -> None:
        eventually(lambda: len(service.events_so_far("worker is recycled")) >= 2, seconds=20)
        service.process.send_signal(signal.SIGHUP)
        before = len(service.events_so_far("service ready"))
        eventually(lambda: len(service.events_so_far("service ready")) >= before + 2, seconds=20)
        answered = len(load.answered)
        eventually(lambda: len(load.answered) > answered + 100, seconds=20)

    load.run_until(replaced)
    service.process.send_signal(signal.SIGTERM)
    assert service.wait_end(seconds=15) == 0
    require_each_once(load, collector)
    instances = {span.resource["service.instance.id"] for span in collector.received}
    assert len(instances) >= 3, "two that were recycled, and one that was started by the reload"
    assert not service.events("spans lost at shutdown")


@pytest.mark.parametrize("mode", ["dead", "slow"])
def test_a_bad_collector_costs_spans_beyond_the_queue_and_neither_requests_nor_the_exit(
    start: Start, collector: Collector, mode: str
) -> None:
    dead = f"http://127.0.0.1:{ports.free()}"
    collector.mode, collector.slow_seconds = "slow", 30
    service = start(
        OTEL_EXPORTER_OTLP_ENDPOINT=dead if mode == "dead" else collector.url,
        OTEL_EXPORTER_OTLP_TIMEOUT=60,
        OTEL_BSP_MAX_QUEUE_SIZE=100,
        OTEL_BSP_MAX_EXPORT_BATCH_SIZE=50,
    )
    load = Load(service)
    load.run(600)
    assert len(load.answered) == 600
    dropped = service.metrics()['otel_spans_total{outcome="dropped"}']
    began = time.monotonic()
    service.process.send_signal(signal.SIGTERM)
    assert service.wait_end(seconds=15) == 0
    assert time.monotonic() - began < 7, "SHUTDOWN_SECONDS=5, and 2 to reap the workers"
    lost = [line["spans"] for line in service.events("spans lost at shutdown")]
    # A queue holds a hundred, and half as many are on their way.
    assert all(spans <= 150 for spans in lost)
    assert dropped + sum(lost) == 2 * 600, "a span of the request and one of its statement"
    assert "SIGKILL" not in service.text
    assert "leaving without them" not in service.text
    # Of each worker one line a minute from each place that complains.
    complaints = [line for line in service.events() if "opentelemetry" in line.get("logger", "")]
    assert len(complaints) <= 2 * 4


# What would turn traces off.
SWITCHES = ("ENDPOINT", "PROTOCOL", "CERTIFICATE", "TRACES_EXPORTER")


@pytest.mark.parametrize("traced", [True, False], ids=["with traces", "without traces"])
def test_what_a_platform_sets_for_every_pod_never_stops_the_service(
    start: Start, collector: Collector, traced: bool
) -> None:
    wrong = {name: "grpc (" for name in VARIABLES if not (traced and name.endswith(SWITCHES))}
    if traced:
        wrong["OTEL_EXPORTER_OTLP_ENDPOINT"] = collector.url
    service = start(**wrong)
    assert service.get("/scenarios/query")[0] == 200
    service.process.send_signal(signal.SIGTERM)
    assert service.wait_end(seconds=15) == 0
    assert len(collector.servers()) == int(traced)
    said = [line["event"] for line in service.events() if line["level"] != "info"]
    about = {line.partition(" ")[0] for line in said if line.startswith("OTEL_")}
    # By the master alone.
    assert len(about) == len(said)
    assert {"OTEL_TRACES_SAMPLER", "OTEL_PROPAGATORS", "OTEL_BSP_SCHEDULE_DELAY"} <= about
