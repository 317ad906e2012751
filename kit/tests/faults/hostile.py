"""Clients that no service wants: slow, silent, too large, senseless, or gone."""

import os
import random
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

HEAD = b"GET /scenarios/slow?seconds=1 HTTP/1.1\r\nHost: a\r\n"
MANY = 150
# An answer takes 5 s at most here, the end of a head that does not come 11 s.
ANSWER_SECONDS = 14.0
Talk = Callable[[socket.socket], None]


def leaves(connection: socket.socket) -> None:
    """Ask and go."""
    connection.sendall(HEAD + b"\r\n")
    connection.close()


def says_nothing(connection: socket.socket) -> None:
    """Keep the connection."""


def asks_slowly(connection: socket.socket) -> None:
    """Begin a head that never ends."""
    connection.sendall(HEAD)


def sends_huge_headers(connection: socket.socket) -> None:
    """Send more than a head may have."""
    with suppress(OSError):
        connection.sendall(HEAD + b"X-Huge: " + b"x" * 200_000 + b"\r\n\r\n")


def sends_garbage(connection: socket.socket) -> None:
    """Send a request and then what is none, in one piece."""
    with suppress(OSError):
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n" * 20 + os.urandom(2000))


def sends_half_a_body(connection: socket.socket) -> None:
    """Say that a body comes, and send a byte of it."""
    connection.sendall(
        b"POST /api/v1/games HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        b"Content-Length: 1000\r\n\r\n{"
    )


@contextmanager
def crowd(port: int, talk: Talk) -> Iterator[list[socket.socket]]:
    """Have many clients behave like that, and keep their connections inside."""
    with ExitStack() as stack:
        connections = []
        for _ in range(MANY):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), 10))
            connections.append(connection)
            talk(connection)
            time.sleep(random.uniform(0, 0.01))
        yield connections


def statuses(connections: list[socket.socket]) -> Counter[str]:
    """Return how each connection ended: by the last status that was answered, or without a word."""
    found: Counter[str] = Counter()
    give_up = time.monotonic() + ANSWER_SECONDS
    for connection in connections:
        if connection.fileno() < 0:
            found["left"] += 1
            continue
        connection.settimeout(max(0.01, give_up - time.monotonic()))
        said = b""
        try:
            while data := connection.recv(2**16):
                said += data
            ended = True
        except TimeoutError:
            ended = False
        except OSError:
            ended = True
        lines = [part[:3].decode() for part in said.split(b"HTTP/1.1 ")[1:]]
        last = lines[-1] if lines else "no word"
        found[last if ended else f"{last}, still open"] += 1
    return found
