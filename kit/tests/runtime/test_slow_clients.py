"""Clients that are slow, silent or too large lose their connection, and nobody else notices."""

import json
import select
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from kit.tests.runtime.conftest import Start
from kit.tests.runtime.harness import Service
from slipway_kit.server.protocol import HEAD_SECONDS, MAX_HEAD_BYTES

MANY = 50
BEGUN = b"GET /scenarios/pid HTTP/1.1\r\nHost: a\r\nX-Slow: "


def said(connection: socket.socket, *, seconds: float) -> bytes:
    """Return all that comes until the other end closes."""
    connection.settimeout(seconds)
    found = b""
    while data := connection.recv(2**16):
        found += data
    return found


def opened(service: Service) -> socket.socket:
    return socket.create_connection(("127.0.0.1", service.port), 5)


@pytest.mark.parametrize("way", ["protocol", "middleware"])
def test_a_head_that_never_ends_is_408_and_holds_up_nobody(start: Start, way: str) -> None:
    service = start(WEB_CONCURRENCY=1, ADMISSION=way)
    slow = [opened(service) for _ in range(MANY)]
    began = time.monotonic()
    while time.monotonic() - began < HEAD_SECONDS / 2:
        for connection in slow:
            connection.sendall(BEGUN if time.monotonic() - began < 0.3 else b"x")
        assert service.get("/scenarios/pid")[0] == 200
        time.sleep(0.3)
    for connection in slow:
        answer = said(connection, seconds=HEAD_SECONDS)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"connection: close" in answer
        connection.close()


def test_one_that_says_nothing_is_kept_as_long_as_an_idle_one(start: Start) -> None:
    service = start(WEB_CONCURRENCY=1, KEEP_ALIVE_SECONDS=2)
    with opened(service) as silent:
        time.sleep(1)
        silent.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
        assert said(silent, seconds=10).startswith(b"HTTP/1.1 200 ")
    with opened(service) as silent:
        assert said(silent, seconds=10) == b""


def test_a_head_that_is_too_large_is_431(start: Start) -> None:
    service = start(WEB_CONCURRENCY=1)
    with opened(service) as greedy:
        greedy.sendall(BEGUN + b"x" * (MAX_HEAD_BYTES + 1))
        assert said(greedy, seconds=10).startswith(b"HTTP/1.1 431 ")
    assert service.get("/scenarios/pid")[0] == 200


# An upload may take 6 s, and a request 3 s beside it.
LARGEST, RATE = 300_000, 50_000
UPLOADS = {
    "WEB_CONCURRENCY": 1,
    "MAX_BODY_BYTES": LARGEST,
    "UPLOAD_MIN_BYTES_PER_SECOND": RATE,
    "SHUTDOWN_SECONDS": 13,
}
UPLOAD = b"POST /scenarios/upload HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n" % LARGEST


def uploaded(
    service: Service, *, rate: float, stop_after: int = LARGEST, head: bytes = UPLOAD
) -> tuple[bytes, float]:
    """Send a body at a steady rate until it is answered; return the answer and the seconds."""
    began = time.monotonic()
    with opened(service) as client:
        client.sendall(head + b"\r\n")
        sent = 0
        while sent < stop_after and not select.select([client], [], [], 0.05)[0]:
            due = min(int((time.monotonic() - began) * rate), stop_after)
            client.sendall(b"x" * (due - sent))
            sent = due
        return said(client, seconds=20), time.monotonic() - began


def test_a_steady_upload_may_take_longer_than_a_request(start: Start) -> None:
    service = start(**UPLOADS)
    answer, seconds = uploaded(service, rate=1.2 * RATE, head=UPLOAD + b"Connection: close\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2]) == {"received": LARGEST}
    assert seconds > 4


def test_a_shutdown_finishes_an_upload_within_its_time(start: Start) -> None:
    service = start(**UPLOADS)
    with ThreadPoolExecutor(1) as background:
        upload = background.submit(uploaded, service, rate=1.2 * RATE)
        time.sleep(0.5)
        service.send(signal.SIGTERM)
        began = time.monotonic()
        answer, seconds = upload.result(20)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in answer
    assert seconds > 4, "longer than the drain"
    assert service.wait_end(seconds=10) == 0
    assert time.monotonic() - began < 13 + 2, "SHUTDOWN_SECONDS, and 2 to reap the worker"


@pytest.mark.parametrize(("rate", "stop_after"), [(RATE / 5, LARGEST), (RATE, 1000)])
def test_an_upload_that_is_too_slow_or_stalls_is_408(
    start: Start, rate: float, stop_after: int
) -> None:
    service = start(**UPLOADS)
    answer, seconds = uploaded(service, rate=rate, stop_after=stop_after)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in head
    assert json.loads(body)["title"] == "Request Timeout"
    assert 2.5 < seconds < 9
    assert service.get("/scenarios/pid")[0] == 200
