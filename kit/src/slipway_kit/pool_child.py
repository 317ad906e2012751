"""The process that computes for a worker: one call after another, until the worker is gone.

It is a program of its own, so it has neither the worker's sockets nor what the worker imported:
only what the calls import themselves, and the log's set-up once one of them imports `logging`.
"""

import pickle
import socket
import struct
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from slipway_kit.system import leave_with_parent

# The length of a message in front of each; what a pickle may hold bounds it.
HEAD = struct.Struct("!Q")
READY = b"ready"


class NotPicklable(TypeError):
    """A value cannot cross the border between processes; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Job:
    """A call, and what its log lines are to say of the caller."""

    call: Callable[..., Any]
    args: tuple[Any, ...] = ()
    bound: Mapping[str, Any] = field(default_factory=dict)
    carrier: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Done:
    """The call returned."""

    result: Any


@dataclass(frozen=True, slots=True)
class Failed:
    """The call raised; `error` is None when it would not survive the way, and text tells of it."""

    error: Exception | None
    text: str
    trace: str


def serve(descriptor: int, parent: int) -> None:
    """Answer each job that comes on the socket until its other end is closed."""
    leave_with_parent(parent=parent)
    with (
        socket.socket(fileno=descriptor) as line,
        line.makefile("rb") as jobs,
        line.makefile("wb") as answers,
        # The worker may be gone in the middle of a message.
        suppress(OSError, EOFError),
    ):
        prepare = _receive(jobs)
        _send(answers, READY)
        while True:
            _send(answers, answer(_receive(jobs), prepare))


def answer(job: bytes, prepare: bytes) -> bytes:
    """Do one job; whatever it raises is an answer too, also what would end this process."""
    try:
        told: Job = pickle.loads(job)  # noqa: S301 (from our own worker)
        with _logged_as(told, prepare):
            return _pickled(told, told.call(*told.args))
    except BaseException as error:  # noqa: BLE001 (SystemExit of a job must not end the worker)
        return pickle.dumps(_failed(error))


def describe(call: Callable[..., Any]) -> str:
    """Name a call for people."""
    return getattr(call, "__qualname__", None) or repr(call)


def _pickled(job: Job, result: object) -> bytes:
    try:
        return pickle.dumps(Done(result))
    except Exception as error:
        message = f"the result of {describe(job.call)} cannot be pickled: {error}"
        raise NotPicklable(message) from error


def _failed(error: BaseException) -> Failed:
    text = "".join(traceback.format_exception_only(error)).strip()
    trace = "".join(traceback.format_exception(error))
    same = None
    # Many errors take other arguments than those that they keep, and cannot be made again.
    with suppress(Exception):
        if type(pickle.loads(pickle.dumps(error))) is type(error) and isinstance(error, Exception):  # noqa: S301 (just made)
            same = error
    return Failed(same, text, trace)


@contextmanager
def _logged_as(job: Job, prepare: bytes) -> Iterator[None]:
    """Have the lines of the job name its caller's request and trace; without a log do nothing.

    The log costs three times the memory of all else, so it is set up only for who can use it.
    """
    if "logging" not in sys.modules:
        yield
        return
    if not _prepared:
        _prepared.append(True)
        if function := pickle.loads(prepare):  # noqa: S301 (from our own worker)
            function()
    # Not at the top: they import the log.
    from structlog.contextvars import bound_contextvars  # noqa: PLC0415

    from slipway_kit.trace_context import continued  # noqa: PLC0415

    with bound_contextvars(**job.bound), continued(job.carrier):
        yield


_prepared: list[bool] = []


def _receive(stream: BinaryIO) -> bytes:
    [length] = HEAD.unpack(_exactly(stream, HEAD.size))
    return _exactly(stream, length)


def _exactly(stream: BinaryIO, length: int) -> bytes:
    data = stream.read(length)
    if len(data) < length:
        raise EOFError
    return data


def _send(stream: BinaryIO, message: bytes) -> None:
    stream.write(HEAD.pack(len(message)))
    stream.write(message)
    stream.flush()
