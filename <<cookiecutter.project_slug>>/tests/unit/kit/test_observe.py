"""The outermost middleware, driven as a server drives it."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.testing import capture_logs

from app.kit.drain import Drain
from app.kit.edge import Deadline
from app.kit.observe import Observe
from app.kit.threads import runs_on_loop

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
    return {"type": "http", "method": "GET", "path": "/x", "headers": pairs}


def observed(app: ASGIApp, *, drain: Drain | None = None) -> Observe:
    ticks = iter([10.0, 10.25, 10.5, 10.75, 11.0])
    return Observe(
        app, drain=drain or Drain(), headers={"X-Frame": "no"}, clock=lambda: next(ticks)
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
async def test_a_sound_request_id_is_kept(given: str) -> None:
    _, headers, _ = await answer(observed(ok), request(x_request_id=given))
    assert headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "a" * 129, "a b", 'a"b', "a\\nb", "ä"])
async def test_an_odd_request_id_is_replaced(given: str) -> None:
    _, headers, _ = await answer(observed(ok), request(x_request_id=given))
    assert len(headers["x-request-id"]) == 32


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


async def test_half_an_answer_is_broken_off_and_not_completed() -> None:
    with capture_logs() as logged, pytest.raises(ZeroDivisionError):
        await answer(observed(half), request())
    assert logged[-1]["event"] == "request"


async def test_while_draining_each_answer_closes_its_connection() -> None:
    drain = Drain()
    drain.begin()
    _, headers, _ = await answer(observed(ok, drain=drain), request())
    assert headers["connection"] == "close"


@pytest.mark.parametrize(("draining", "status"), [(True, 503), (False, 499)])
async def test_a_request_that_is_cut_is_told_so_only_when_the_worker_leaves(
    *, draining: bool, status: int
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
    assert [m["status"] for m in sent if "status" in m] == [503] * draining
    assert logged[-1]["status"] == status


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


async def test_a_late_answer_is_a_504_and_what_comes_after_it_is_dropped() -> None:
    async def late(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            # As a plain `def` route does: it cannot be cancelled and answers in the end.
            await ok(scope, receive, send)

    status, headers, body = await answer(Deadline(late, seconds=0.01), request())
    assert (status, headers["content-type"]) == (504, "application/problem+json")
    assert b"took too long" in body
    assert not body.endswith(b"ok")


async def test_a_request_in_time_is_left_alone() -> None:
    assert (await answer(Deadline(ok, seconds=60), request()))[0] == 200


async def test_a_stream_may_last_longer_than_the_deadline() -> None:
    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.sleep(0.03)
        await send({"type": "http.response.body", "body": b"end"})

    assert (await answer(Deadline(stream, seconds=0.01), request()))[2] == b"end"


async def test_a_cancel_from_outside_is_no_deadline() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    serving = asyncio.create_task(
        Deadline(patient, seconds=60)(request(), nothing_to_receive, send)
    )
    await asyncio.sleep(0)
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert not sent


async def test_a_websocket_has_no_deadline() -> None:
    seen: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0.02)
        seen.append(send)

    async def send(message: Message) -> None:
        raise AssertionError(message)

    scope = {"type": "websocket", "path": "/x", "headers": []}
    await Deadline(app, seconds=0.001)(scope, nothing_to_receive, send)
    assert seen == [send]


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
