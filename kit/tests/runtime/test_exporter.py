"""The port of the metrics under clients that want none: a scrape is answered all the same."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import psutil
import pytest

from kit.tests.runtime.harness import Service
from slipway_kit.metrics import exporter
from slipway_kit.testing.waiting import eventually

Connect = Callable[[], socket.socket]
CLIENTS = 200
MIB = 2**20
SCRAPE_SECONDS = 2.0


@pytest.fixture
def connect(service: Service) -> Iterator[Connect]:
    """Give a function that connects to the port of the metrics."""
    with ExitStack() as opened:

        def one() -> socket.socket:
            return opened.enter_context(
                socket.create_connection(("127.0.0.1", service.metrics_port), 10)
            )

        yield one


def idle(_: socket.socket) -> None:
    """Send nothing."""


def garbage(client: socket.socket) -> None:
    client.sendall(bytes(range(256)) * 4)


def endless_line(client: socket.socket) -> None:
    client.sendall(b"GET /" + b"x" * MIB)


def endless_head(client: socket.socket) -> None:
    client.sendall(b"GET /metrics HTTP/1.1\r\n" + b"x-more: " + b"x" * 60_000 + b"\r\n")
    for _ in range(98):
        client.sendall(b"x-more: " + b"x" * 60_000 + b"\r\n")


def large_body(client: socket.socket) -> None:
    client.sendall(b"POST /metrics HTTP/1.1\r\nContent-Length: 1000000000\r\n\r\n" + b"x" * MIB)


def reads_nothing(client: socket.socket) -> None:
    client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")


@pytest.mark.parametrize(
    "harm", [idle, garbage, endless_line, endless_head, large_body, reads_nothing]
)
def test_scrapes_are_answered_whatever_others_send(
    service: Service, connect: Connect, harm: Callable[[socket.socket], None]
) -> None:
    (pid,) = service.exporters()
    process = psutil.Process(pid)
    assert service.metrics()
    before = process.memory_full_info().uss
    most, began = 0, time.monotonic()
    for number in range(CLIENTS):
        with suppress(OSError):
            harm(connect())
        most = max(most, process.num_threads())
        if number % 20 == 0:
            asked = time.monotonic()
            assert service.metrics()
            assert time.monotonic() - asked < SCRAPE_SECONDS
    assert time.monotonic() - began < 30
    assert most <= exporter._MAX_CONNECTIONS + 2
    assert process.memory_full_info().uss - before < 16 * MIB
    assert service.exporters() == [pid]


def test_a_head_that_comes_byte_by_byte_ends(service: Service, connect: Connect) -> None:
    (pid,) = service.exporters()
    client, ended = connect(), threading.Event()

    def drip() -> None:
        with suppress(OSError):
            while not ended.wait(0.2):
                client.sendall(b"x")

    threading.Thread(target=drip, daemon=True).start()
    began = time.monotonic()
    with suppress(ConnectionResetError):
        client.settimeout(20)
        assert client.recv(100) == b""
    ended.set()
    assert time.monotonic() - began == pytest.approx(exporter._CLIENT_SECONDS, abs=2)
    eventually(lambda: psutil.Process(pid).num_threads() == 1)


def test_a_head_in_two_pieces_is_answered(service: Service, connect: Connect) -> None:
    client = connect()
    client.sendall(b"GET /metrics HTTP/1.0\r\nAccept: text/")
    time.sleep(0.2)
    client.sendall(b"plain\r\n\r\n")
    assert client.recv(100).startswith(b"HTTP/1.0 200 OK\r\n")
