"""What clients may send on the wire: no connection harms the worker or another connection."""

import json
import signal
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from kit.tests.runtime.conftest import Start
from kit.tests.runtime.harness import connected, port_is_free
from kit.tests.runtime.test_slow_clients import opened, said
from kit.tests.support import ports, programs
from slipway_kit.server.protocol import MAX_HEAD_BYTES
from slipway_kit.testing.waiting import eventually

UPGRADE = (
    b"GET /scenarios/socket?seconds=%d HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n"
    b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n%b\r\n"
)
TRAILERS = b"X-Forwarded-For: 6.6.6.6\r\nAuthorization: a\r\nX-Request-ID: forged\r\n"
CHUNKED = b"POST /scenarios/headers HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
HANDSHAKES = {
    "a body": (b"Content-Length: 1\r\n", 400),
    "a body in chunks": (b"Transfer-Encoding: chunked\r\n", 400),
    "a cookie of 9 KB": (b"Cookie: %b\r\n" % (b"c" * 9000), 431),
    "130 headers": (b"".join(b"X-%d: a\r\n" % each for each in range(130)), 431),
    "a bad header": (b"X-A: \xff\r\nX(Y): a\r\n", 400),
    "no version": (b"Sec-WebSocket-Version: 12\r\n", 400),
}
HAPROXY = """
defaults
  mode http
  timeout connect 5s
  timeout client 5s
  timeout server 5s
listen service
  bind 127.0.0.1:{port}
  option forwardfor
  server worker 127.0.0.1:{service}
"""


def problem(answer: bytes) -> dict[str, Any]:
    """Return the problem of an answer that says what every answer says."""
    head, _, body = answer.partition(b"\r\n\r\n")
    found = json.loads(body)
    assert b"x-request-id: " + found["request_id"].encode() in head.lower()
    assert b"x-content-type-options: nosniff" in head.lower()
    assert b"connection: close" in head.lower()
    return dict(found)


def test_a_bad_handshake_is_answered_and_costs_no_other_request(start: Start) -> None:
    service = start(WEB_CONCURRENCY=1)
    with ExitStack() as stack:
        for name, (lines, status) in HANDSHAKES.items():
            bad, again = (stack.enter_context(opened(service)) for _ in range(2))
            bad.sendall(UPGRADE % (0, lines))
            assert problem(said(bad, seconds=5))["status"] == status, name
            again.sendall(UPGRADE % (0, lines))
        background = stack.enter_context(ThreadPoolExecutor())
        time.sleep(2)
        other = background.submit(service.get, "/scenarios/slow?seconds=2")
        time.sleep(0.5)
        service.send(signal.SIGTERM)
        assert other.result(10)[0] == 200
    assert service.wait_end(seconds=10) == 0
    assert not service.events_so_far("connection failed")


def test_a_handshake_that_nobody_accepts_is_504_and_one_in_time_is_accepted(start: Start) -> None:
    service = start(WEB_CONCURRENCY=1, REQUEST_TIMEOUT_SECONDS=3)
    with opened(service) as late, opened(service) as early:
        late.sendall(UPGRADE % (60, b""))
        early.sendall(UPGRADE % (0, b""))
        assert early.recv(1000).startswith(b"HTTP/1.1 101 ")
        assert said(late, seconds=6).startswith(b"HTTP/1.1 504 ")
        early.sendall(b"\x81\x81\0\0\0\0a")
        assert b"\x81\x01a" in early.recv(1000)


def test_an_upgrade_amid_another_answer_closes_the_connection(start: Start) -> None:
    service = start(WEB_CONCURRENCY=1)
    with opened(service) as both:
        both.sendall(
            b"GET /scenarios/slow?seconds=2 HTTP/1.1\r\nHost: a\r\n\r\n" + UPGRADE % (0, b"")
        )
        assert b"101" not in said(both, seconds=5)
    assert service.get("/scenarios/pid")[0] == 200


def no_trailer_is_a_header(port: int) -> None:
    # Also when they come with the head, and before a request on the same connection.
    whole = CHUNKED + b"1\r\na\r\n0\r\n" + TRAILERS + b"\r\n"
    last = whole.replace(b"Host: a", b"Host: a\r\nConnection: close")
    with socket.create_connection(("127.0.0.1", port), 5) as client:
        client.sendall(whole + last)
        answers = said(client, seconds=5)
    assert answers.count(b"HTTP/1.1 200 ") == 2
    assert b"forged" not in answers
    assert b"authorization" not in answers
    assert b"6.6.6.6" not in answers


def test_a_trailer_is_no_header_and_is_counted(start: Start) -> None:
    service = start(WEB_CONCURRENCY=1)
    no_trailer_is_a_header(service.port)
    assert service.metrics()["http_trailers_dropped_total"] == 2 * TRAILERS.count(b"\r\n")


def test_a_trailer_is_no_header_behind_a_proxy(start: Start, tmp_path: Path) -> None:
    program = programs.find("haproxy", package="haproxy")
    service, port = start(WEB_CONCURRENCY=1, FORWARDED_ALLOW_IPS="127.0.0.1"), ports.free()
    configuration = tmp_path / "haproxy.cfg"
    configuration.write_text(HAPROXY.format(port=port, service=service.port))
    with subprocess.Popen([program, "-f", configuration]) as proxy:
        try:
            eventually(lambda: not port_is_free(port))
            no_trailer_is_a_header(port)
        finally:
            proxy.kill()


@pytest.mark.parametrize(
    "endless",
    [b"0\r\n%b", b"0\r\nX-Endless: %b", b"1;%b"],
    ids=["trailers", "a trailer", "an extension of a chunk"],
)
def test_what_comes_after_a_head_and_is_no_body_has_an_end(start: Start, endless: bytes) -> None:
    service = start(WEB_CONCURRENCY=1)
    (worker,) = service.workers()
    before = psutil.Process(worker).memory_info().rss
    more = (b"\r\nX-A: a" if endless.endswith(b"\n%b") else b"aaaaaaaa") * 8192
    with opened(service) as client:
        client.sendall(CHUNKED + endless % b"X-A: a")
        with pytest.raises(OSError, match=r"reset|pipe"):
            client.sendall(more * 500)
    assert psutil.Process(worker).memory_info().rss - before < 2**25
    assert service.get("/scenarios/pid")[0] == 200


def test_a_head_that_is_too_large_is_431_in_one_piece_too(start: Start) -> None:
    service = start(WEB_CONCURRENCY=1)
    many = b"".join(
        b"X-%d: %b\r\n" % (each, b"a" * 900) for each in range(2 + MAX_HEAD_BYTES // 900)
    )
    with opened(service) as client:
        client.sendall(b"GET /scenarios/pid HTTP/1.1\r\nHost: a\r\n" + many + b"\r\n")
        assert problem(said(client, seconds=5))["status"] == 431


# In bytes, of a worker that a client floods.
GROWTH = 2**25
GET = b"GET /scenarios/pid HTTP/1.1\r\nHost: a\r\n\r\n"
PING = b"\x89\x80\0\0\0\0"
EMPTY_FRAGMENT = b"\x00\x80\0\0\0\0"


@pytest.mark.parametrize(
    ("begin", "flood"),
    [
        (UPGRADE % (0, b""), b"\x89\xfd\0\0\0\0" + b"a" * 125),
        (UPGRADE % (0, b""), PING),
        (UPGRADE % (0, b"") + b"\x01\x80\0\0\0\0", EMPTY_FRAGMENT),
        (GET, GET),
    ],
    ids=["large pings", "pings", "fragments", "pipelined requests"],
)
def test_a_flood_from_a_client_that_reads_nothing_costs_little(
    start: Start, begin: bytes, flood: bytes
) -> None:
    service = start(WEB_CONCURRENCY=1)
    process, many = psutil.Process(service.workers()[0]), flood * (2**18 // len(flood))
    before, late = process.memory_info().rss, 0.0
    with opened(service) as client:
        client.sendall(begin)
        time.sleep(0.5)
        client.settimeout(0.1)
        began, rest = time.monotonic(), b""
        while time.monotonic() - began < 4:
            rest = rest or many
            with suppress(TimeoutError, ConnectionError):
                rest = rest[client.send(rest) :]
            asked = time.monotonic()
            assert service.get("/livez")[0] == 200
            late = max(late, time.monotonic() - asked)
        assert process.memory_info().rss - before < GROWTH
        assert late < 1


@pytest.mark.parametrize("seconds", [0.01, 0])
def test_a_flood_of_small_messages_waits_for_its_reader(start: Start, seconds: float) -> None:
    service = start(WEB_CONCURRENCY=1)
    process = psutil.Process(service.workers()[0])
    before, late = process.memory_info().rss, 0.0
    upgrade = (UPGRADE % (0, b"")).replace(b"socket?seconds=0", b"reader?seconds=%g" % seconds)
    many = b"\x81\x81\0\0\0\0a" * 2**15
    with ExitStack() as stack:
        clients = [stack.enter_context(opened(service)) for _ in range(8)]
        for client in clients:
            client.sendall(upgrade)
            assert client.recv(1000).startswith(b"HTTP/1.1 101 ")
            client.settimeout(0.02)
        rests, began = [b""] * len(clients), time.monotonic()
        while time.monotonic() - began < 4:
            for number, client in enumerate(clients):
                rests[number] = rests[number] or many
                with suppress(TimeoutError):
                    rests[number] = rests[number][client.send(rests[number]) :]
            asked = time.monotonic()
            assert service.get("/livez")[0] == 200
            late = max(late, time.monotonic() - asked)
        grown = process.memory_info().rss - before
    assert grown < GROWTH / 2
    assert late < 0.5


GARBAGE = {
    "TLS": b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + bytes(32),
    "zeros": bytes(1000),
    "a line": b"nonsense\r\n\r\n",
    "a method": b"NONSENSE /livez HTTP/1.1\r\n\r\n",
    "a version": b"GET /livez HTTP/9.9\r\n\r\n",
    "no name": b"GET /livez HTTP/1.1\r\n: a\r\n\r\n",
    "two lengths": b"POST /livez HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
}


@pytest.mark.parametrize("way", ["protocol", "middleware", "off"])
def test_garbage_is_a_problem_like_every_other(start: Start, way: str) -> None:
    service = start(WEB_CONCURRENCY=1, ADMISSION=way)
    for name, garbage in GARBAGE.items():
        with opened(service) as client:
            client.sendall(garbage)
            assert problem(said(client, seconds=5))["status"] == 400, name
    assert service.get("/livez")[0] == 200


@pytest.mark.parametrize("path", [b"endless?seconds=60", b"endless", b"own", b"own?seconds=60"])
def test_head_of_an_endless_stream_ends_it(start: Start, path: bytes) -> None:
    service = start(WEB_CONCURRENCY=1)
    with opened(service) as client:
        client.settimeout(5)
        client.sendall(b"HEAD /scenarios/%b HTTP/1.1\r\nHost: a\r\n\r\n" % path + GET)
        answers = b""
        while b"pid" not in answers:
            answers += client.recv(1000)
    assert answers.count(b"HTTP/1.1 200 ") == 2
    assert b"a\n" not in answers.partition(b"\r\n\r\n")[2].partition(b"\r\n\r\n")[0]
    # Both are over.
    eventually(lambda: len(service.events_so_far("request")) == 2)
    service.send(signal.SIGTERM)
    assert service.wait_end(seconds=10) == 0


@pytest.mark.parametrize("way", ["protocol", "middleware"])
def test_a_page_may_read_that_it_is_refused(start: Start, way: str) -> None:
    service = start(
        WEB_CONCURRENCY=1,
        ADMISSION=way,
        CORS_ORIGINS="https://shop.example",
        DATABASE_POOL_SIZE=1,
        DATABASE_MAX_OVERFLOW=0,
    )

    def ask(origin: str) -> tuple[int, bytes, bool]:
        with connected(service.port) as connection:
            connection.request("GET", "/scenarios/hold?seconds=0.3", headers={"Origin": origin})
            answer = connection.getresponse()
            allowed = answer.getheader("Access-Control-Allow-Origin")
            right = allowed == (origin if "shop" in origin else None)
            return answer.status, answer.read(), right

    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(ask, ["https://shop.example", "https://evil.example"] * 30))
    assert all(right for _, _, right in answers)
    reasons = {json.loads(body)["detail"] for status, body, _ in answers if status == 503}
    assert {
        "The service has more requests than it can serve; try again soon.",
        "Too many requests are waiting for the database; try again soon.",
    } <= reasons
