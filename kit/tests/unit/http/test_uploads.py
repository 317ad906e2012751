"""The deadline of a request with a body, on simulated time."""

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message, Receive, Scope, Send

from slipway_kit.http.limits import RequestLimits
from slipway_kit.request_context import deadline_within

SECONDS, RATE, LARGEST = 10.0, 40_000.0, 1_000_000
# What a body may take at most.
LONGEST = LARGEST / RATE
NEVER = 1e6
# Seconds until a part of the body arrives, its bytes, and seconds of work before the next is read.
Part = tuple[float, int, float]


class Loop(asyncio.SelectorEventLoop):
    """A loop whose time passes only while nothing can run."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 1000.0
        selector: Any = self._selector  # type: ignore[attr-defined]
        select = selector.select

        def pass_time(timeout: float | None = None) -> object:
            self.seconds += timeout or 0.0
            return select(0)

        selector.select = pass_time

    def time(self) -> float:
        return self.seconds


class Answer(NamedTuple):
    """What a client got, and after how long."""

    status: int
    seconds: float
    headers: dict[bytes, bytes]
    detail: str


@pytest.fixture(scope="module")
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


def send(
    loop: Loop,
    parts: Sequence[Part],
    *,
    work: float = 0.0,
    asked: str = "",
    look: Callable[[], object] = lambda: None,
) -> Answer:
    """Send a body to a service that works on each part, and on the whole, before it answers."""
    coming, working = iter(parts), 0.0
    left, sent = len(parts), list[Message]()

    async def receive() -> Message:
        nonlocal left, working
        seconds, size, working = next(coming, (NEVER, 0, 0.0))
        await asyncio.sleep(seconds)
        left -= 1
        return {"type": "http.request", "body": b"x" * size, "more_body": left > 0}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        more = True
        while more:
            more = (await receive())["more_body"]
            await asyncio.sleep(working)
        look()
        await asyncio.sleep(work)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    async def keep(message: Message) -> None:
        sent.append(message)

    limits = RequestLimits(
        app, max_bytes=LARGEST, seconds=SECONDS, upload_rate=RATE, clock=loop.time
    )
    headers = [(b"transfer-encoding", b"chunked")]
    headers += [(b"request-timeout", asked.encode())] * bool(asked)
    scope = {"type": "http", "http_version": "1.1", "method": "POST", "path": "/x"}
    began = loop.seconds
    loop.run_until_complete(limits(scope | {"headers": headers}, receive, keep))
    detail = json.loads(sent[1]["body"]).get("detail", "")
    return Answer(sent[0]["status"], loop.seconds - began, dict(sent[0]["headers"]), detail)


def steady(rate: float, size: int = 900_000, pieces: int = 90) -> list[Part]:
    """Return the parts of a body that arrives at a steady rate."""
    return [(size / pieces / rate, size // pieces, 0.0)] * pieces


@pytest.mark.parametrize("rate", [RATE, 50_000, 90_000, 1e9])
def test_the_time_of_a_steady_upload_is_not_that_of_the_request(loop: Loop, rate: float) -> None:
    upload = 900_000 / rate
    answer = send(loop, steady(rate), work=SECONDS - 0.1)
    assert (answer.status, round(answer.seconds, 1)) == (200, round(upload + 9.9, 1))
    answer = send(loop, steady(rate), work=SECONDS + 0.1)
    assert (answer.status, round(answer.seconds, 1)) == (504, round(upload + 10.0, 1))
    assert b"connection" not in answer.headers


def test_a_body_that_stalls_is_408_and_its_connection_is_closed(loop: Loop) -> None:
    for begun in ([], [(0.0, 400, 0.0)]):
        answer = send(loop, [*begun, (NEVER, 1, 0.0)])
        assert (answer.status, round(answer.seconds, 1)) == (408, 10.0)
        assert answer.headers[b"connection"] == b"close"
        assert "the least rate is 40000 bytes per second" in answer.detail


def test_a_body_below_the_least_rate_uses_up_the_time_of_its_request(loop: Loop) -> None:
    # A part arrives each second and is worth a quarter of one: 10 + 12 / 4.
    answer = send(loop, steady(RATE / 4))
    assert (answer.status, round(answer.seconds, 1)) == (408, 13.0)
    # One that is a little slower has time left.
    assert send(loop, steady(RATE * 0.9)).status == 200


def test_a_client_that_was_ahead_may_pause(loop: Loop) -> None:
    ahead = steady(1e9, 400_000)
    assert send(loop, [*ahead, (9.9, 1, 0.0)], work=SECONDS - 0.1).status == 200
    answer = send(loop, [*ahead, (21.0, 1, 0.0)])
    assert (answer.status, round(answer.seconds, 1)) == (408, 20.0)


def test_being_late_is_the_fault_of_who_took_more_of_the_time(loop: Loop) -> None:
    answer = send(loop, [(6.0, 1, 0.0)], work=4.1)
    assert (answer.status, round(answer.seconds, 1)) == (408, 10.0)
    answer = send(loop, [(4.0, 1, 0.0)], work=6.1)
    assert (answer.status, round(answer.seconds, 1)) == (504, 10.0)


def test_in_the_time_that_a_client_asks_for_everything_counts(loop: Loop) -> None:
    answer = send(loop, steady(50_000), asked="5")
    assert (answer.status, round(answer.seconds, 1)) == (408, 5.0)
    # More than the service has for itself, and less than it has with the upload.
    answer = send(loop, steady(100_000), work=4.0, asked="12")
    assert (answer.status, round(answer.seconds, 1)) == (408, 12.0)
    assert "within its 12 s" in answer.detail
    assert send(loop, steady(100_000), work=2.9, asked="12").status == 200


def test_work_after_an_upload_has_the_whole_time_of_a_request(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slipway_kit.request_context.now", loop.time)
    left: list[float] = []
    send(loop, steady(50_000), look=lambda: left.append(deadline_within(60) - loop.time()))
    assert left == [pytest.approx(SECONDS)]


parts = st.lists(
    st.tuples(
        st.floats(0, 3) | st.just(0.0),
        st.integers(0, LARGEST // 12),
        st.floats(0, 1) | st.just(0.0),
    ),
    min_size=1,
    max_size=12,
)


@given(parts, st.floats(0, 12))
def test_no_request_outlasts_its_time_and_that_of_the_largest_body(
    parts: list[Part], work: float
) -> None:
    loop = Loop()
    answer = send(loop, parts, work=work)
    loop.close()
    assert answer.seconds <= SECONDS + LONGEST + 0.02
    waited = received = behind = 0.0
    for seconds, size, _ in parts:
        waited, received = waited + seconds, received + size
        behind = max(behind, waited - (received - size) / RATE)
    own = sum(seconds for *_, seconds in parts) + work
    if behind <= 0 and answer.status != 200:
        assert (answer.status, own >= SECONDS - 0.02) == (504, True)
    if answer.status == 200:
        assert own <= SECONDS + 0.02
