"""A busy loop accepts the whole backlog in one iteration."""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from kit.tests.support.turns import turns, until
from slipway_kit.server import acceptor
from slipway_kit.server.acceptor import Acceptor

pytestmark = pytest.mark.anyio

MANY = 40


class Greeter(asyncio.Protocol):
    """Writes a greeting and closes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(b"hello")
        transport.close()


class Listening(socket.socket):
    """A listening socket whose accept can be made to fail."""

    error: OSError | None = None
    asked = 0

    def accept(self) -> tuple[socket.socket, Any]:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return super().accept()


@pytest.fixture
def listening() -> Listening:
    made = Listening()
    made.bind(("127.0.0.1", 0))
    made.listen(MANY)
    return made


@pytest.fixture
async def accepting(listening: Listening) -> AsyncIterator[Acceptor]:
    made = Acceptor(listening, Greeter, busy=lambda: True)
    yield made
    made.close()
    await made.wait_closed()


def connect(listening: socket.socket) -> socket.socket:
    return socket.create_connection(listening.getsockname(), 5)


async def heard(client: socket.socket) -> bytes:
    with client:
        return await asyncio.to_thread(client.recv, 100)


async def test_the_whole_backlog_is_accepted_in_one_iteration(
    listening: Listening, accepting: Acceptor
) -> None:
    clients = [connect(listening) for _ in range(MANY)]
    await until(lambda: listening.asked)
    assert listening.asked == MANY + 1
    assert {await heard(client) for client in clients} == {b"hello"}


async def test_connections_per_iteration_are_bounded(
    listening: Listening, accepting: Acceptor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceptor, "_MAX_PER_ITERATION", 10)
    clients = [connect(listening) for _ in range(25)]
    await until(lambda: listening.asked)
    assert listening.asked == 10
    assert {await heard(client) for client in clients} == {b"hello"}


async def test_an_idle_loop_accepts_one_connection_per_iteration(listening: Listening) -> None:
    idle = Acceptor(listening, Greeter, busy=lambda: False)
    clients = [connect(listening) for _ in range(5)]
    await until(lambda: listening.asked)
    assert listening.asked == 1
    assert {await heard(client) for client in clients} == {b"hello"}
    idle.close()


async def test_once_closed_it_accepts_nothing_and_frees_the_port(
    listening: Listening, accepting: Acceptor
) -> None:
    address = listening.getsockname()
    accepting.close()
    accepting.close()
    await accepting.wait_closed()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, 5)


@pytest.mark.parametrize("reason", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
async def test_without_file_descriptors_it_pauses_and_retries(
    listening: Listening,
    accepting: Acceptor,
    reason: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    later: list[Callable[[], None]] = []
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "call_later", lambda _, call: later.append(call))
    listening.error = OSError(reason, "no more")
    client = connect(listening)
    with capture_logs() as events:
        await until(lambda: later)
        await turns()
    assert [event["event"] for event in events] == ["cannot accept connections"]
    assert listening.asked == 1
    monkeypatch.undo()
    listening.error = None
    later.pop()()
    assert await heard(client) == b"hello"


async def test_some_descriptors_are_kept_for_others(
    listening: Listening, accepting: Acceptor, monkeypatch: pytest.MonkeyPatch
) -> None:
    later: list[Callable[[], None]] = []
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "call_later", lambda _, call: later.append(call))
    accepting._end, most = 0, accepting._end
    client = connect(listening)
    with capture_logs() as events:
        await until(lambda: later)
    assert [event["error"] for event in events] == ["[Errno 24] Too many open files"]
    assert listening.asked == 0
    monkeypatch.undo()
    accepting._end = most
    later.pop()()
    assert await heard(client) == b"hello"


async def test_it_can_be_closed_while_it_pauses(listening: Listening, accepting: Acceptor) -> None:
    listening.error = OSError(errno.EMFILE, "no more")
    client = connect(listening)
    await until(lambda: listening.asked)
    accepting.close()
    assert listening.fileno() < 0
    client.close()


async def test_a_client_that_left_already_is_no_error(
    listening: Listening, accepting: Acceptor, unseen: list[Any]
) -> None:
    listening.error = ConnectionAbortedError(errno.ECONNABORTED, "gone")
    client = connect(listening)
    await until(lambda: listening.asked)
    listening.error = None
    assert await heard(client) == b"hello"


class Writer(asyncio.Protocol):
    """Writes more than the kernel takes."""

    lost: BaseException | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(bytes(2**24))
        transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        type(self).lost = exc


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="this system has no such limit")
async def test_a_client_that_reads_nothing_loses_its_connection(
    listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceptor, "UNREAD_SECONDS", 1)
    made = Acceptor(listening, Writer, busy=lambda: True)
    with connect(listening):
        await until(lambda: Writer.lost is not None, seconds=20)
    assert isinstance(Writer.lost, OSError)
    made.close()
    await made.wait_closed()
