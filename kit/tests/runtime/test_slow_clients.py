"""Clients that are slow, silent or too large lose their connection, and nobody else notices."""

import socket
import time

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
