import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest

from slipway_kit.client.retries import (
    LONGEST_PAUSE,
    Call,
    TransientResponse,
    attempts,
    retry_after_seconds,
)
from slipway_kit.clock import now


def call(method: str, remaining: float = 5, **options: object) -> Call:
    return Call(method, "/", options, now() + remaining)


def answer(status: int, retry_after: str | None = None) -> httpx.Response:
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    return httpx.Response(status, headers=headers)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0),
        ("7", 7),
        (None, None),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("1.5", None),
        ("\u0663", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("Wed, 99 Oct 2015 07:28:00 GMT", None),
    ],
)
def test_the_pause_an_upstream_asks_for_is_read(header: str | None, seconds: float | None) -> None:
    response = httpx.Response(503)
    if header is not None:
        response.headers = httpx.Headers([(b"retry-after", header.encode())])
    assert retry_after_seconds(response) == seconds


def test_a_date_is_a_pause_from_now_on() -> None:
    then = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    pause = retry_after_seconds(answer(503, then))
    assert pause is not None
    assert 3500 < pause <= 3600


@pytest.mark.anyio
async def test_the_next_try_comes_after_the_pause_that_the_upstream_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    async def ask() -> None:
        async for attempt in attempts(call("GET"), limit=3):
            with attempt:
                raise TransientResponse(answer(503, "7" if attempt.num == 1 else None))

    monkeypatch.setattr(asyncio, "sleep", sleep)
    with pytest.raises(TransientResponse):
        await ask()
    named, own = pauses
    assert named == 7
    assert 0 < own <= LONGEST_PAUSE


@pytest.mark.parametrize(
    ("error", "get", "post"),
    [
        (httpx.ConnectError("refused"), True, True),
        (httpx.ConnectTimeout("no route"), True, True),
        (httpx.ReadError("reset"), True, False),
        (httpx.WriteError("reset"), True, False),
        (httpx.RemoteProtocolError("closed"), True, False),
        (httpx.ReadTimeout("slow"), False, False),
        (httpx.WriteTimeout("slow"), False, False),
        (httpx.PoolTimeout("full"), False, False),
        (httpx.LocalProtocolError("a bug"), False, False),
        (ValueError("a bug"), False, False),
    ],
)
def test_an_error_is_tried_again_where_nothing_can_happen_twice(
    error: Exception, get: bool, post: bool
) -> None:
    assert call("GET").pause_after(error) is get
    assert call("POST").pause_after(error) is post


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
def test_an_answer_passes_for_methods_that_may_be_repeated(method: str) -> None:
    assert call(method).should_retry(answer(503))
    assert not call(method).should_retry(answer(200))
    assert not call("POST").should_retry(answer(503))


@pytest.mark.parametrize(("remaining", "retried"), [(60, True), (3, False)])
def test_a_pause_has_to_fit_into_the_time_that_is_left(remaining: float, retried: bool) -> None:
    assert call("GET", remaining).should_retry(answer(503, "3")) is retried


@pytest.mark.parametrize(
    ("options", "repeatable"),
    [
        ({}, True),
        ({"json": {}}, True),
        ({"content": b"bytes"}, True),
        ({"data": {"field": "form"}}, True),
        ({"content": iter([b"stream"])}, False),
        ({"data": [b"stream"]}, False),
        ({"files": {"file": b"a"}}, False),
    ],
)
def test_a_stream_or_a_file_is_there_once(options: dict[str, Any], repeatable: bool) -> None:
    put = call("PUT", **options)
    assert put.repeatable is repeatable
    assert put.should_retry(answer(503)) is repeatable
