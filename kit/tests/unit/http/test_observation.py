"""The outermost middleware and the limits of requests, driven like by a server."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import structlog
from prometheus_client import CollectorRegistry
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.testing import capture_logs

from slipway_kit.errors import Unavailable
from slipway_kit.http.limits import RequestLimits
from slipway_kit.http.observation import ObservationMiddleware
from slipway_kit.http.probes import Drain
from slipway_kit.http.records import Records
from slipway_kit.http.routes import runs_on_loop
from slipway_kit.request_context import deadline_within
from slipway_kit.tracing.provider import Traces

pytestmark = pytest.mark.anyio


async def ok(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


async def bug(scope: Scope, receive: Receive, send: Send) -> None:
    raise ZeroDivisionError("SELECT password FROM users")


async def half(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    raise ZeroDivisionError


async def patient(scope: Scope, receive: Receive, send: Send) -> None:
    await asyncio.sleep(60)


async def nothing_to_receive() -> Message:
    raise AssertionError("nobody reads here")


def request(**headers: str) -> Scope:
    pairs = [(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()]
    return {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "path": "/x",
        "headers": pairs,
    }


def observed(app: ASGIApp, *, drain: Drain | None = None) -> ObservationMiddleware:
    ticks = iter([10.0, 10.25, 10.5, 10.75, 11.0])
    return ObservationMiddleware(
        app,
        drain=drain or Drain(),
        traces=Traces(),
        headers=[(b"x-frame", b"no")],
        record=Records(CollectorRegistry()).add,
        clock=lambda: next(ticks),
    )


async def answer(app: ASGIApp, scope: Scope) -> tuple[int, dict[str, str], bytes]:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, nothing_to_receive, send)
    headers = {name.decode(): text.decode() for name, text in sent[0]["headers"]}
    return sent[0]["status"], headers, b"".join(m.get("body", b"") for m in sent[1:])


async def test_an_answer_carries_id_time_and_security_headers() -> None:
    status, headers, body = await answer(observed(ok), request())
    assert (status, body) == (200, b"ok")
    assert headers["x-processed-time"] == "0.250000"
    assert headers["x-frame"] == "no"
    assert len(headers["x-request-id"]) == 32
    assert "connection" not in headers


@pytest.mark.parametrize("given", ["abc-123", "a" * 128])
async def test_a_valid_request_id_is_kept(given: str) -> None:
    _, headers, _ = await answer(observed(ok), request(x_request_id=given))
    assert headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "a" * 129, "a b", 'a"b', "a\\nb", "ä"])
async def test_an_invalid_request_id_is_replaced(given: str) -> None:
    _, headers, _ = await answer(observed(ok), request(x_request_id=given))
    assert len(headers["x-request-id"]) == 32


async def test_a_header_that_the_app_sets_itself_stays_and_ours_win() -> None:
    async def own(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"x-frame", b"yes"), (b"x-request-id", b"mine")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await observed(own)(request(x_request_id="theirs"), nothing_to_receive, send)
    assert sorted(sent[0]["headers"]) == [
        (b"x-frame", b"yes"),
        (b"x-processed-time", b"0.250000"),
        (b"x-request-id", b"theirs"),
    ]


async def test_the_request_id_is_in_the_lines_of_the_request_and_not_in_those_after_it() -> None:
    bound: list[dict[str, Any]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        bound.append(structlog.contextvars.get_contextvars())
        await ok(scope, receive, send)

    await answer(observed(app), request(x_request_id="id-1"))
    assert bound == [{"request_id": "id-1"}]
    assert structlog.contextvars.get_contextvars() == {}


async def test_each_request_is_one_log_line() -> None:
    with capture_logs() as logged:
        await answer(observed(ok), request())
    assert logged == [
        {
            "event": "request",
            "log_level": "info",
            "method": "GET",
            "route": "unmatched",
            "status": 200,
            "ms": 500.0,
            "mode": None,
        }
    ]


async def test_a_bug_is_a_500_problem_without_details_and_is_logged_with_its_stack() -> None:
    with capture_logs() as logged:
        status, headers, body = await answer(observed(bug), request(x_request_id="id-1"))
    assert (status, headers["content-type"]) == (500, "application/problem+json")
    assert b"id-1" in body
    assert b"SELECT" not in body
    assert headers["x-processed-time"]
    assert [e["event"] for e in logged] == ["unhandled error", "request"]
    assert logged[0]["exc_info"]
    assert logged[1]["status"] == 500


async def test_half_an_answer_is_aborted_and_not_completed() -> None:
    with capture_logs() as logged, pytest.raises(ZeroDivisionError):
        await answer(observed(half), request())
    assert logged[-1]["event"] == "request"


async def test_an_error_of_a_dependency_amid_an_answer_is_no_bug() -> None:
    async def gone(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        # As Starlette does with one that it has a handler for.
        raise RuntimeError("response already started") from Unavailable("The database is gone.")

    with capture_logs() as logged, pytest.raises(RuntimeError):
        await answer(observed(gone), request())
    assert [e["event"] for e in logged] == ["answer broken off", "request"]
    assert logged[0]["reason"] == "The database is gone."


async def test_while_draining_each_answer_closes_its_connection() -> None:
    drain = Drain()
    drain.begin()
    _, headers, _ = await answer(observed(ok, drain=drain), request())
    assert headers["connection"] == "close"


@pytest.mark.parametrize("draining", [True, False])
async def test_a_cancelled_request_is_503_and_the_server_hears_of_it_unless_the_worker_drains(
    *, draining: bool
) -> None:
    drain = Drain()
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    with capture_logs() as logged:
        serving = asyncio.create_task(
            observed(patient, drain=drain)(request(), nothing_to_receive, send)
        )
        await asyncio.sleep(0)
        if draining:
            drain.begin()
        serving.cancel()
        (error,) = await asyncio.gather(serving, return_exceptions=True)
    assert (error is None) is draining
    assert [m["status"] for m in sent if "status" in m] == [503]
    assert logged[-1]["status"] == 503


@pytest.mark.parametrize(
    ("messages", "status"),
    [
        ([{"type": "websocket.accept"}, {"type": "websocket.close", "code": 1001}], 1001),
        ([{"type": "websocket.accept"}], 101),
        ([{"type": "websocket.close"}], 403),
    ],
)
async def test_a_websocket_is_one_line_too(messages: list[Message], status: int) -> None:
    async def socket(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    async def send(message: Message) -> None:
        assert message["type"].startswith("websocket.")

    scope = {"type": "websocket", "path": "/x", "headers": []}
    with capture_logs() as logged:
        await observed(socket)(scope, nothing_to_receive, send)
    assert [(e["method"], e["status"]) for e in logged] == [("WEBSOCKET", status)]


async def test_the_lifespan_is_passed_through() -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    await observed(app)({"type": "lifespan"}, nothing_to_receive, nothing_to_receive)  # type: ignore[arg-type]  # nothing is sent
    assert seen == ["lifespan"]


async def test_a_late_request_is_a_504_and_its_own_answer_is_dropped() -> None:
    async def late(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            # As a plain `def` route does: it cannot be cancelled and answers in the end.
            await ok(scope, receive, send)

    status, headers, body = await answer(RequestLimits(late, max_bytes=9, seconds=0.01), request())
    assert (status, headers["content-type"]) == (504, "application/problem+json")
    assert b"not answered within its 0.01 s" in body
    assert not body.endswith(b"ok")


async def test_a_single_timer_expires_all_requests() -> None:
    now, timers = 100.0, []

    class Watched(RequestLimits):
        def _schedule_expiry(self, seconds: float) -> None:
            timers.append(seconds)
            super()._schedule_expiry(60)

    limits = Watched(patient, max_bytes=9, seconds=5, clock=lambda: now)
    first = asyncio.create_task(answer(limits, request()))
    await asyncio.sleep(0)
    now = 102.0
    second = asyncio.create_task(answer(limits, request()))
    await asyncio.sleep(0)
    assert timers == [5]
    now = 105.0
    limits._expire()
    assert (await first)[0] == 504
    assert not second.done()
    assert timers == [5, 2]
    now = 107.0
    limits._expire()
    assert (await second)[0] == 504
    assert timers == [5, 2]


async def test_a_client_may_ask_for_less_time_and_not_for_more() -> None:
    limits = RequestLimits(patient, max_bytes=9, seconds=0.05)
    status, _, body = await answer(limits, request(request_timeout="0.01"))
    assert status == 408
    assert b"within its 0.01 s" in body
    for more in ("60", "soon", "-1", "nan"):
        status, _, body = await answer(limits, request(request_timeout=more))
        assert status == 504
        assert b"within its 0.05 s" in body


async def test_the_deadline_holds_for_inner_work_until_the_answer_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("slipway_kit.request_context.now", lambda: 100.0)
    left: list[float] = []

    def look() -> None:
        left.append(deadline_within(60) - 100)

    async def asking(scope: Scope, receive: Receive, send: Send) -> None:
        look()
        await ok(scope, receive, send)
        look()

    limits = RequestLimits(asking, max_bytes=9, seconds=5, clock=lambda: 100.0)
    await answer(limits, request())
    await answer(limits, request(request_timeout="2"))
    assert left == [5, 60, 2, 60]


async def test_the_queueing_delay_counts() -> None:
    scope = {**request(), "arrived": 99.0}
    limits = RequestLimits(patient, max_bytes=9, seconds=5, clock=lambda: 100.0)
    late = asyncio.create_task(answer(limits, scope))
    await asyncio.sleep(0)
    assert list(limits._waiting.values()) == [104.0]
    late.cancel()
    ticks = iter([100.5, 100.75])
    observe = ObservationMiddleware(
        ok,
        drain=Drain(),
        traces=Traces(),
        headers=[],
        record=Records(CollectorRegistry()).add,
        clock=lambda: next(ticks),
    )
    assert (await answer(observe, scope))[1]["x-processed-time"] == "1.500000"


async def test_a_body_is_refused_by_its_content_length_or_by_its_size() -> None:
    async def reading(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["more_body"]:
            pass
        await ok(scope, receive, send)

    async def parts() -> Message:
        return {"type": "http.request", "body": b"12345", "more_body": True}

    limits = RequestLimits(reading, max_bytes=9, seconds=60)
    said = request(content_length="10")
    assert (await answer(limits, said))[0] == 413
    for scope in (request(transfer_encoding="chunked"), {**request(), "http_version": "2"}):
        with pytest.raises(HTTPException) as raised:
            await limits(scope, parts, ok_send)
        assert raised.value.status_code == 413


async def ok_send(message: Message) -> None:
    raise AssertionError(message)


async def test_a_request_in_time_is_answered() -> None:
    assert (await answer(RequestLimits(ok, max_bytes=9, seconds=60), request()))[0] == 200


async def test_a_stream_may_last_longer_than_the_deadline() -> None:
    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.sleep(0.03)
        await send({"type": "http.response.body", "body": b"end"})

    assert (await answer(RequestLimits(stream, max_bytes=9, seconds=0.01), request()))[2] == b"end"


async def test_a_cancellation_from_outside_is_no_timeout() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    serving = asyncio.create_task(
        RequestLimits(patient, max_bytes=9, seconds=60)(request(), nothing_to_receive, send)
    )
    await asyncio.sleep(0)
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert not sent


async def test_a_websocket_has_a_deadline_until_it_is_accepted() -> None:
    sent: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/accepted":
            await send({"type": "websocket.accept"})
        await asyncio.sleep(0.2)
        await send({"type": "websocket.close"})

    async def send(message: Message) -> None:
        sent.append(message.get("status", message["type"]))

    limits = RequestLimits(app, max_bytes=9, seconds=0.05)
    for path in ("/accepted", "/late"):
        scope: dict[str, Any] = {"type": "websocket", "path": path, "headers": []}
        await limits(
            scope | {"extensions": {"websocket.http.response": {}}}, nothing_to_receive, send
        )
    expected = ["websocket.accept", "websocket.close", 504, "websocket.http.response.body"]
    assert sent == expected


async def coroutine() -> None: ...


async def generator() -> Any:
    yield


def plain() -> None: ...


class Callable_:  # noqa: N801 (a class beside the functions)
    async def __call__(self) -> None: ...


@pytest.mark.parametrize(
    ("call", "expected"),
    [(coroutine, True), (generator, True), (Callable_(), True), (plain, False), (len, False)],
)
async def test_where_a_function_runs_follows_the_framework(
    call: Callable[..., Any], *, expected: bool
) -> None:
    assert runs_on_loop(call) is expected
