"""Calls over a socket of this machine: promises about connections cannot be shown otherwise."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import stamina
import structlog
from opentelemetry import trace
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from kit.tests.support import ports
from kit.tests.support.tracing import recorded_spans
from kit.tests.support.turns import other_tasks, turns, until
from slipway_kit import request_context
from slipway_kit.client.client import HttpClient, open_http_client
from slipway_kit.client.errors import UpstreamBusy, UpstreamTimeout, UpstreamUnavailable
from slipway_kit.client.settings import HttpClientSettings
from slipway_kit.errors import DeadlineExceeded, Unavailable
from slipway_kit.request_context import Limit
from slipway_kit.testing.upstream import Upstream, open_upstream

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _no_pauses() -> Iterator[None]:
    """Leave out the pauses between tries; their number stays as it is set."""
    with stamina.set_testing(True, attempts=100, cap=True):
        yield


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with open_upstream() as upstream:
        yield upstream


@asynccontextmanager
async def opened(**settings: Any) -> AsyncIterator[HttpClient]:
    """Open a client and see that it leaves no task, and no connection that counts as used."""
    before = other_tasks()
    # A busy machine may take its time, where a test does not say otherwise.
    times = {f"{name}_timeout_seconds": 60 for name in ("total", "read", "connect", "pool")}
    async with open_http_client(HttpClientSettings(**{**times, **settings})) as client:
        yield client
        client.sample()
        assert connections("active") == 0
    left = other_tasks() - before
    assert [task for task in left if "open_upstream" not in repr(task)] == []


@dataclass
class Request:
    """A request that must be answered in time."""

    deadline: float | None
    queue_limit: Limit | None = None
    by_client = False


def connections(state: str) -> float | None:
    return REGISTRY.get_sample_value("http_client_connections", {"state": state})


def calls(outcome: str) -> float:
    labels = {"outcome": outcome}
    return REGISTRY.get_sample_value("http_client_request_seconds_count", labels) or 0


def retries() -> float:
    return REGISTRY.get_sample_value("http_client_retries_total") or 0


async def test_sixty_calls_one_after_another_use_one_connection(upstream: Upstream) -> None:
    async with opened() as client:
        for _ in range(60):
            assert (await client.get(f"{upstream.url}/ok")).text == "ok"
        client.sample()
        assert (connections("idle"), connections("active")) == (1, 0)
    assert (upstream.accepted, len(upstream.requests)) == (1, 60)


async def test_sixty_calls_at_once_use_as_many_connections_as_allowed(upstream: Upstream) -> None:
    upstream.go_on.clear()
    async with opened(max_connections=5) as client:
        asked = [asyncio.create_task(client.get(f"{upstream.url}/ok")) for _ in range(60)]
        await until(lambda: len(upstream.requests) == 5)
        await turns()
        client.sample()
        assert connections("active") == 5
        assert REGISTRY.get_sample_value("http_client_waiting") == 55
        assert REGISTRY.get_sample_value("http_client_max_connections") == 5
        upstream.go_on.set()
        answers = await asyncio.gather(*asked)
    assert [answer.status_code for answer in answers] == [200] * 60
    assert upstream.most_open == 5


async def test_a_call_that_finds_no_free_connection_is_503(upstream: Upstream) -> None:
    upstream.go_on.clear()
    async with opened(max_connections=1) as client:
        first = asyncio.create_task(client.get(f"{upstream.url}/ok"))
        await until(lambda: len(upstream.requests) == 1)
        client._settings = HttpClientSettings(max_connections=1, pool_timeout_seconds=0.01)
        with pytest.raises(Unavailable, match="All 1 connections to other services are in use"):
            await client.get(f"{upstream.url}/ok")
        upstream.go_on.set()
        assert (await first).status_code == 200
    assert len(upstream.requests) == 1


async def test_callers_cancelled_while_they_wait_take_no_connection_along(
    upstream: Upstream,
) -> None:
    upstream.go_on.clear()
    async with opened(max_connections=2) as client:
        for _ in range(10):
            asked = [asyncio.create_task(client.get(f"{upstream.url}/ok")) for _ in range(10)]
            await turns(5)
            for each in asked:
                each.cancel()
            await asyncio.wait(asked)
        upstream.go_on.set()
        answers = await asyncio.gather(*(client.get(f"{upstream.url}/ok") for _ in range(4)))
        assert [answer.status_code for answer in answers] == [200] * 4


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_dead_upstream_is_503_after_all_tries(method: str) -> None:
    before = retries()
    async with opened(retries=3) as client:
        with capture_logs() as events, pytest.raises(UpstreamUnavailable) as caught:
            await client.request(method, f"http://127.0.0.1:{ports.free()}/secret?key=1")
    assert (caught.value.status, caught.value.headers) == (503, {"Retry-After": "1"})
    assert "127.0.0.1" not in str(caught.value)
    assert retries() == before + 3
    event = events[-1]
    assert (event["event"], event["host"], event["method"]) == (
        "upstream failed",
        "127.0.0.1",
        method,
    )
    assert event["cause"].startswith("ConnectError")
    assert "secret" not in str(events)


async def test_a_slow_upstream_is_504_and_is_not_asked_again(upstream: Upstream) -> None:
    async with opened(read_timeout_seconds=0.05) as client:
        with pytest.raises(UpstreamTimeout, match="took too long"):
            await client.get(f"{upstream.url}/silent")
        await until(lambda: upstream.open == 0)
    assert upstream.requests == ["GET /silent"]


async def test_the_total_deadline_ends_a_call_whatever_it_waits_for(upstream: Upstream) -> None:
    async with opened(total_timeout_seconds=0.05, max_response_bytes=2**40) as client:
        for path in ("silent", "endless"):
            with pytest.raises(DeadlineExceeded):
                await client.get(f"{upstream.url}/{path}")
    await until(lambda: upstream.open == 0)


async def test_a_call_gets_what_is_left_of_its_request_and_says_so(upstream: Upstream) -> None:
    async with opened(total_timeout_seconds=60) as client:
        now = asyncio.get_running_loop().time
        await client.get(f"{upstream.url}/ok")
        request_context.begin(Request(now() + 40))
        await client.get(f"{upstream.url}/ok")
        await client.get(f"{upstream.url}/ok", headers={"Request-Timeout": "0.001"})
        request_context.begin(Request(now() + 0.05))
        with pytest.raises(DeadlineExceeded):
            await client.get(f"{upstream.url}/silent")
    told = [float(headers["request-timeout"]) for headers in upstream.headers]
    assert 40 < told[0] <= 60
    assert 0 < told[1] <= 40
    assert told[2] == 0.001


async def test_a_call_that_would_wait_too_long_for_a_connection_is_refused(
    upstream: Upstream,
) -> None:
    async with opened(max_connections=1) as client:
        await client.get(f"{upstream.url}/slow")
        calls = [asyncio.create_task(client.get(f"{upstream.url}/slow")) for _ in range(5)]
        with capture_logs() as events:
            done = await asyncio.gather(*calls, return_exceptions=True)
    busy = [answer for answer in done if isinstance(answer, UpstreamBusy)]
    # One has the connection, one may wait for as long as it takes itself.
    assert len(busy) == 3
    assert events == []


async def test_a_get_is_tried_again_after_a_reset_and_a_post_is_not(upstream: Upstream) -> None:
    async with opened(retries=2) as client:
        with pytest.raises(UpstreamUnavailable):
            await client.get(f"{upstream.url}/reset")
        with pytest.raises(UpstreamUnavailable):
            await client.post(f"{upstream.url}/reset", json={})
    assert upstream.requests == ["GET /reset"] * 3 + ["POST /reset"]


async def test_an_answer_that_breaks_off_is_503_and_is_not_asked_for_again(
    upstream: Upstream,
) -> None:
    async with opened() as client:
        with pytest.raises(UpstreamUnavailable):
            await client.get(f"{upstream.url}/half")
    assert upstream.requests == ["GET /half"]


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_an_answer_that_may_pass_is_asked_for_again(upstream: Upstream, status: int) -> None:
    upstream.statuses["/ok"] = [status]
    async with opened() as client:
        assert (await client.get(f"{upstream.url}/ok")).status_code == 200
    assert len(upstream.requests) == 2


async def test_the_last_answer_is_given_as_it_is(upstream: Upstream) -> None:
    upstream.statuses["/ok"] = [503] * 3
    async with opened(retries=2) as client:
        answer = await client.get(f"{upstream.url}/ok")
    assert (answer.status_code, answer.text, len(upstream.requests)) == (503, "ok", 3)


@pytest.mark.parametrize("status", [400, 404, 429, 500])
async def test_other_answers_are_taken_at_once(upstream: Upstream, status: int) -> None:
    upstream.statuses["/ok"] = [status]
    async with opened() as client:
        assert (await client.get(f"{upstream.url}/ok")).status_code == status
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"method": "POST", "json": {"a": 1}},
        {"method": "PATCH"},
        {"method": "put", "files": {"file": b"once"}},
    ],
)
async def test_what_may_not_happen_twice_is_not_repeated(
    upstream: Upstream, options: dict[str, Any]
) -> None:
    upstream.statuses["/ok"] = [503]
    async with opened() as client:
        assert (await client.request(url=f"{upstream.url}/ok", **options)).status_code == 503
    assert len(upstream.requests) == 1


async def test_a_body_that_is_a_stream_is_never_sent_twice() -> None:
    async def body() -> AsyncGenerator[bytes, None]:
        yield b"once"

    before = retries()
    async with opened() as client:
        with pytest.raises(UpstreamUnavailable):
            await client.request("PUT", f"http://127.0.0.1:{ports.free()}", content=body())
    assert retries() == before


async def test_a_put_is_repeated_with_its_body(upstream: Upstream) -> None:
    upstream.statuses["/ok"] = [503]
    async with opened() as client:
        await client.request("PUT", f"{upstream.url}/ok", content=b"body")
    assert upstream.bodies == [b"body", b"body"]


async def test_a_pause_beyond_the_deadline_is_not_waited_for(upstream: Upstream) -> None:
    upstream.statuses["/ok"] = [503]
    upstream.extra_headers = ["Retry-After: 60"]
    async with opened() as client:
        assert (await client.get(f"{upstream.url}/ok")).status_code == 503
    assert len(upstream.requests) == 1


async def test_no_connection_is_held_between_two_tries(upstream: Upstream) -> None:
    upstream.statuses["/flaky"] = [503]
    upstream.extra_headers = ["Retry-After: 5"]
    async with opened(max_connections=1) as client:
        with stamina.set_testing(False):
            pausing = asyncio.create_task(client.get(f"{upstream.url}/flaky"))
            await until(lambda: len(upstream.requests) == 1)
            assert (await client.get(f"{upstream.url}/ok")).status_code == 200
            pausing.cancel()
            await asyncio.wait([pausing])
    assert upstream.requests == ["GET /flaky", "GET /ok"]


async def test_what_is_no_http_is_503(upstream: Upstream) -> None:
    async with opened() as client:
        with pytest.raises(UpstreamUnavailable):
            await client.get(f"{upstream.url}/garbage")


@pytest.mark.parametrize("path", ["endless", "bomb"])
async def test_an_answer_over_the_bound_is_503_with_a_sentence(
    upstream: Upstream, path: str
) -> None:
    async with opened(max_response_bytes=100_000) as client:
        with pytest.raises(UpstreamUnavailable, match="answered with more than 100000 bytes"):
            await client.get(f"{upstream.url}/{path}")
    await until(lambda: upstream.open == 0)


async def test_a_redirect_is_an_answer(upstream: Upstream) -> None:
    upstream.statuses["/ok"] = [302]
    upstream.extra_headers = [f"Location: {upstream.url}/elsewhere"]
    async with opened() as client:
        assert (await client.get(f"{upstream.url}/ok")).status_code == 302
    assert upstream.requests == ["GET /ok"]


async def test_proxies_of_the_environment_are_used_on_purpose_alone(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", upstream.url)
    elsewhere = f"http://127.0.0.1:{ports.free()}/ok"
    async with opened(retries=0) as client:
        with pytest.raises(UpstreamUnavailable):
            await client.get(elsewhere)
    async with opened(retries=0, trust_env=True) as client:
        assert (await client.get(elsewhere)).text == "ok"
        client.sample()
        assert connections("idle") == 1
    assert upstream.requests == [f"GET {elsewhere}"]


async def test_a_stream_is_read_as_it_comes_and_closed_when_its_reader_leaves(
    upstream: Upstream,
) -> None:
    async with opened() as client:
        async with client.stream("GET", f"{upstream.url}/endless") as answer:
            assert answer.status_code == 200
            async for piece in answer.aiter_bytes():
                assert piece.startswith(b"x")
                break
            client.sample()
            assert connections("active") == 1
        await until(lambda: upstream.open == 0)


async def test_a_stream_is_closed_when_its_reader_is_cancelled(upstream: Upstream) -> None:
    reading = asyncio.Event()
    before = calls("cancelled")

    async with opened() as client:

        async def read() -> None:
            async with client.stream("GET", f"{upstream.url}/endless") as answer:
                async for _ in answer.aiter_bytes():
                    reading.set()

        reader = asyncio.create_task(read())
        await reading.wait()
        reader.cancel()
        await asyncio.wait([reader])
        await until(lambda: upstream.open == 0)
    assert calls("cancelled") == before + 1


async def test_a_stream_that_breaks_off_or_falls_silent_has_the_same_errors(
    upstream: Upstream,
) -> None:
    async with opened() as client:
        with pytest.raises(UpstreamUnavailable):
            async with client.stream("GET", f"{upstream.url}/half") as answer:
                await answer.aread()
    async with opened(read_timeout_seconds=0.05) as client:
        with pytest.raises(UpstreamTimeout):
            async with client.stream("GET", f"{upstream.url}/silent"):
                pass


async def test_a_reader_of_a_stream_may_call_meanwhile(upstream: Upstream) -> None:
    async with (
        opened(max_connections=2) as client,
        client.stream("GET", f"{upstream.url}/ok") as one,
    ):
        two = await client.get(f"{upstream.url}/ok")
        assert (await one.aread(), two.content) == (b"ok", b"ok")


async def test_a_mistake_in_the_call_is_a_bug() -> None:
    async with opened() as client:
        with pytest.raises(httpx.UnsupportedProtocol):
            await client.get("no address")


async def test_each_call_is_measured_by_its_outcome(upstream: Upstream) -> None:
    names = ("2xx", "5xx", "timeout", "unavailable")
    before = [calls(name) for name in names]
    upstream.statuses["/ok"] = [200, 500]
    async with opened(retries=0) as client:
        await client.get(f"{upstream.url}/ok")
        await client.get(f"{upstream.url}/ok")
        with pytest.raises(UpstreamUnavailable):
            await client.get(f"{upstream.url}/reset")
    async with opened(read_timeout_seconds=0.05) as client:
        with pytest.raises(UpstreamTimeout):
            await client.get(f"{upstream.url}/silent")
    assert [calls(name) - old for name, old in zip(names, before, strict=True)] == [1, 1, 1, 1]


async def test_each_try_is_a_span_and_takes_the_trace_along(upstream: Upstream) -> None:
    upstream.statuses["/ok?token=hunter2"] = [503]
    with recorded_spans() as recorded:
        async with opened() as client:
            with trace.get_tracer(__name__).start_as_current_span("request"):
                await client.get(f"{upstream.url}/ok?token=hunter2")
    *tries, request = recorded.get_finished_spans()
    assert all(f"{upstream.url}/ok" in (each.attributes or {}).values() for each in tries)
    assert "hunter2" not in "".join(each.to_json() for each in tries)
    assert [each.parent for each in tries] == [request.get_span_context()] * 2
    sent = [headers["traceparent"].split("-")[1:3] for headers in upstream.headers]
    spans = [each.get_span_context() or trace.INVALID_SPAN_CONTEXT for each in tries]
    assert sent == [[f"{span.trace_id:032x}", f"{span.span_id:016x}"] for span in spans]


async def test_without_traces_nothing_is_sent_along(upstream: Upstream) -> None:
    async with opened() as client:
        await client.get(f"{upstream.url}/ok")
    assert "traceparent" not in upstream.headers[0]


async def test_no_library_logs_whole_addresses(
    upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with opened() as client:
        await client.get(f"{upstream.url}/ok?token=secret")
    assert "secret" not in caplog.text
    assert structlog.contextvars.get_contextvars() == {}
