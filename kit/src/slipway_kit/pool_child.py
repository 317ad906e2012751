"""The child process of the process pool: it runs one call after another for its worker.

It is a new interpreter, without the worker's sockets and imports: it imports only what the calls
import, and sets up the log once one of them imports `logging`.
"""

import pickle
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from slipway_kit.system import die_with_parent

# The length of an answer, in front of it.
LENGTH = struct.Struct("!Q")


class NotPicklable(TypeError):
    """A value cannot be sent between processes; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Job:
    """A call, with the log context and the trace context of its caller.

    `set_up_log` is a pickled function.
    """

    call: Callable[..., Any]
    args: tuple[Any, ...] = ()
    log_context: Mapping[str, Any] = field(default_factory=dict)
    carrier: Mapping[str, str] = field(default_factory=dict)
    set_up_log: bytes | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of a call, or the error that it raised, as text and with its traceback.

    `error` is None when it cannot be pickled.
    """

    result: Any = None
    error: Exception | None = None
    text: str = ""
    trace: str = ""


def serve(descriptor: int, parent: int) -> None:
    """Answer each job on the socket until the worker closes it."""
    die_with_parent(signal.SIGKILL, parent=parent)
    with (
        socket.socket(fileno=descriptor) as connection,
        connection.makefile("rb") as jobs,
        # The worker may end in the middle of a message.
        suppress(OSError, EOFError, pickle.UnpicklingError),
    ):
        while True:
            message = answer(pickle.load(jobs))  # noqa: S301 (from our own worker)
            connection.sendall(LENGTH.pack(len(message)))
            connection.sendall(message)


def answer(pickled: bytes) -> bytes:
    """Run a job; every exception is an answer, SystemExit included."""
    try:
        job: Job = pickle.loads(pickled)  # noqa: S301 (from our own worker)
        with _logged_as(job):
            return _pickled(job, job.call(*job.args))
    except BaseException as error:  # noqa: BLE001 (SystemExit of a job must not end the worker)
        return pickle.dumps(_failed(error))


def describe(call: Callable[..., Any]) -> str:
    """Return the name of a callable."""
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
    copyable = None
    # Exceptions whose arguments differ from their `args` cannot be unpickled.
    with suppress(Exception):
        if type(pickle.loads(pickle.dumps(error))) is type(error) and isinstance(error, Exception):  # noqa: S301 (just made)
            copyable = error
    return Answer(error=copyable, text=text, trace=trace)


@contextmanager
def _logged_as(job: Job) -> Iterator[None]:
    """Log with the request and the trace of the caller.

    Without `logging` imported it does nothing: the log takes three times the memory of all else.
    """
    if "logging" not in sys.modules:
        yield
        return
    if job.set_up_log is not None:
        _set_up_log(job.set_up_log)
    # Not at the top: these import `logging`.
    from structlog.contextvars import bound_contextvars  # noqa: PLC0415

    from slipway_kit.trace_context import continued  # noqa: PLC0415

    with bound_contextvars(**job.log_context), continued(job.carrier):
        yield


@cache
def _set_up_log(pickled: bytes) -> None:
    """Set up the log, once."""
    pickle.loads(pickled)()  # noqa: S301 (from our own worker)
