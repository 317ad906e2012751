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
from functools import cache
from typing import Any

from slipway_kit.system import leave_with_parent

# The length of an answer in front of it; what a pickle may hold bounds it.
HEAD = struct.Struct("!Q")


class NotPicklable(TypeError):
    """A value cannot cross the border between processes; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Job:
    """A call, and what its log lines are to say of the caller.

    `prepare` is a pickled function that sets up the log.
    """

    call: Callable[..., Any]
    args: tuple[Any, ...] = ()
    bound: Mapping[str, Any] = field(default_factory=dict)
    carrier: Mapping[str, str] = field(default_factory=dict)
    prepare: bytes | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call returned; or the traceback of what it raised, which `error` and `text` tell.

    `error` is None when it would not survive the way.
    """

    result: Any = None
    error: Exception | None = None
    text: str = ""
    trace: str = ""


def serve(descriptor: int, parent: int) -> None:
    """Answer each job that comes on the socket until its other end is closed."""
    leave_with_parent(parent=parent)
    with (
        socket.socket(fileno=descriptor) as line,
        line.makefile("rb") as jobs,
        # The worker may be gone, also in the middle of a message.
        suppress(OSError, EOFError, pickle.UnpicklingError),
    ):
        while True:
            message = answer(pickle.load(jobs))  # noqa: S301 (from our own worker)
            line.sendall(HEAD.pack(len(message)))
            line.sendall(message)


def answer(job: bytes) -> bytes:
    """Do one job; whatever it raises is an answer too, also what would end this process."""
    try:
        told: Job = pickle.loads(job)  # noqa: S301 (from our own worker)
        with _logged_as(told):
            return _pickled(told, told.call(*told.args))
    except BaseException as error:  # noqa: BLE001 (SystemExit of a job must not end the worker)
        return pickle.dumps(_failed(error))


def describe(call: Callable[..., Any]) -> str:
    """Name a call for people."""
    return getattr(call, "__qualname__", None) or repr(call)


def _pickled(job: Job, result: object) -> bytes:
    try:
        return pickle.dumps(Answer(result))
    except Exception as error:
        message = f"the result of {describe(job.call)} cannot be pickled: {error}"
        raise NotPicklable(message) from error


def _failed(error: BaseException) -> Answer:
    text = "".join(traceback.format_exception_only(error)).strip()
    trace = "".join(traceback.format_exception(error))
    same = None
    # Many errors take other arguments than those that they keep, and cannot be made again.
    with suppress(Exception):
        if type(pickle.loads(pickle.dumps(error))) is type(error) and isinstance(error, Exception):  # noqa: S301 (just made)
            same = error
    return Answer(error=same, text=text, trace=trace)


@contextmanager
def _logged_as(job: Job) -> Iterator[None]:
    """Have the lines of the job name its caller's request and trace; without a log do nothing.

    The log costs three times the memory of all else, so it is set up only for who can use it.
    """
    if "logging" not in sys.modules:
        yield
        return
    if job.prepare is not None:
        _prepare(job.prepare)
    # Not at the top: they import the log.
    from structlog.contextvars import bound_contextvars  # noqa: PLC0415

    from slipway_kit.trace_context import continued  # noqa: PLC0415

    with bound_contextvars(**job.bound), continued(job.carrier):
        yield


@cache
def _prepare(prepare: bytes) -> None:
    """Set up the log, once."""
    pickle.loads(prepare)()  # noqa: S301 (from our own worker)
