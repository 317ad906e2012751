"""A reader that stalls, or a full disk, costs log lines and never blocks."""

import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from slipway_kit.logs import stream as log_stream
from slipway_kit.logs.stream import LogStream

LINE = "x" * 99 + "\n"
# Far more than a pipe takes.
MANY = 30_000


class Pipe:
    """A pipe with a stream at its end."""

    def __init__(self, *, limit_bytes: int = log_stream.LIMIT_BYTES) -> None:
        self.out, self.into = os.pipe()
        self.stream = LogStream(self.into, limit_bytes=limit_bytes)

    def read_until(self, last: str) -> list[str]:
        """Return every line until this one."""
        found = b""
        while not found.endswith(f"{last}\n".encode()):
            found += os.read(self.out, 2**16)
        return found.decode().splitlines()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    os.close(made.out)
    # What still waits is dropped now, and not while the next test counts.
    assert made.stream._emptied.wait(30)
    for each in {made.into, made.stream._descriptor}:
        os.close(each)


def dropped() -> float:
    return REGISTRY.get_sample_value("log_lines_dropped_total") or 0


def test_a_line_is_there_at_once(pipe: Pipe) -> None:
    pipe.stream.write("one\n")
    pipe.stream.flush()
    assert os.read(pipe.out, 100) == b"one\n"


def test_without_a_thread_the_buffer_is_written_by_a_later_line(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as out:
        out.setattr(threading.Thread, "start", no_thread)
        for number in range(2000):
            pipe.stream.write(f"{number} {LINE}")
    pipe.stream.write("last\n")
    assert len(pipe.read_until("last")) == 2001


def test_a_stalled_reader_blocks_nobody_and_gets_the_buffer_later(pipe: Pipe) -> None:
    before, began = dropped(), time.monotonic()
    for number in range(MANY):
        pipe.stream.write(f"{number:099}\n")
    assert time.monotonic() - began < 20, "a blocked write would never end"
    kept = MANY - int(dropped() - before)
    assert log_stream.LIMIT_BYTES <= kept * 100 < 2 * log_stream.LIMIT_BYTES
    found = b""
    while len(found) < kept * 100:
        found += os.read(pipe.out, 2**16)
    assert [int(line) for line in found.splitlines()] == list(range(kept))


def test_after_a_stall_lines_are_written_directly_again(pipe: Pipe) -> None:
    for _ in range(MANY):
        pipe.stream.write(LINE)

    def go_on() -> None:
        pipe.stream._emptied.wait()
        pipe.stream.write("again\n")

    other = threading.Thread(target=go_on)
    other.start()
    lines = pipe.read_until("again")
    other.join()
    assert set(lines) == {LINE.strip(), "again"}
    pipe.stream.write("and again\n")
    assert os.read(pipe.out, 100) == b"and again\n"


def test_lines_of_several_processes_are_not_torn(pipe: Pipe) -> None:
    children = []
    for letter in "abcd":
        child = os.fork()
        if child == 0:
            stream = LogStream(pipe.into, limit_bytes=2**30)
            for _ in range(500):
                stream.write(f"{letter * 700}\n" * 3)
            stream._emptied.wait()
            os._exit(0)
        children.append(child)
    found = b""
    while found.count(b"\n") < 4 * 500 * 3:
        found += os.read(pipe.out, 2**16)
    for child in children:
        os.waitpid(child, 0)
    assert {(line[:1] * 700) == line for line in found.splitlines()} == {True}


def test_a_line_longer_than_a_pipe_arrives_whole(pipe: Pipe) -> None:
    pipe.stream.write("y" * 200_000 + "\nz\n")
    assert pipe.read_until("z") == ["y" * 200_000, "z"]


def test_a_child_does_not_write_the_buffer_of_its_parent(pipe: Pipe) -> None:
    while not pipe.stream._buffer:
        pipe.stream.write(LINE)
    child = os.fork()
    if child == 0:
        os._exit(len(pipe.stream._buffer))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="the device is Linux's")
def test_a_full_disk_drops_lines_and_counts_them() -> None:
    before = dropped()
    descriptor = os.open("/dev/full", os.O_WRONLY)
    LogStream(descriptor).write("one\ntwo\n")
    os.close(descriptor)
    assert dropped() - before == 2


def test_a_closed_pipe_drops_lines_and_counts_them(pipe: Pipe) -> None:
    before = dropped()
    os.close(pipe.out)
    pipe.stream.write("one\n")
    assert dropped() - before == 1
    pipe.out, _ = os.pipe()


def test_a_file_gets_every_line(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        LogStream(file.fileno()).write("one\ntwo\n")
    assert (tmp_path / "log").read_text() == "one\ntwo\n"


def test_a_full_socket_does_not_block() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        stream = LogStream(ours.fileno())
        began = time.monotonic()
        for _ in range(MANY):
            stream.write(LINE)
        assert stream._buffer
        assert time.monotonic() - began < 20
        assert theirs.recv(100) == LINE.encode()


def test_lone_surrogates_are_written_escaped(pipe: Pipe) -> None:
    pipe.stream.write("a\udc80b\n")
    assert os.read(pipe.out, 100) == b"a\\udc80b\n"
