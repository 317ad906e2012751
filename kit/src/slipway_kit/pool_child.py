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


class JobError(Exception):
    """A computation raised an error that cannot be pickled; the text names it."""


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
    """The result of a call, or the error that it raised with its traceback."""

    result: Any = None
    error: Exception | None = None
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
            result = job.call(*job.args)
        return dumps(Answer(result), f"the result of {describe(job.call)}")
    except BaseException as error:  # noqa: BLE001 (SystemExit of a job must not end the worker)
        trace = "".join(traceback.format_exception(error))
        return pickle.dumps(Answer(error=_copyable(error), trace=trace))


def dumps(value: object, what: str) -> bytes:
    """Pickle `value` or raise `NotPicklable`, which calls it `what`."""
    try:
        return pickle.dumps(value)
    except Exception as error:
        raise NotPicklable(f"{what} cannot be pickled: {error}") from error


def describe(call: Callable[..., Any]) -> str:
    """Return the name of a callable."""
    return getattr(call, "__qualname__", None) or repr(call)


def _copyable(error: BaseException) -> Exception:
    # Exceptions whose arguments differ from their `args` cannot be unpickled.
    with suppress(Exception):
        copy = pickle.loads(pickle.dumps(error))  # noqa: S301 (just made)
        if isinstance(error, Exception) and type(copy) is type(error):
            return error
    return JobError("".join(traceback.format_exception_only(error)).strip())


@contextmanager
def _logged_as(job: Job) -> Iterator[None]:
    """Log with the request and the trace of the caller.

    Without `logging` imported it does nothing: the log takes three times the memory of all else.
    """
    if "logging" not in sys.modules:
        yield
        return
    if job.set_up_log:
        _set_up_log(job.set_up_log)
    # Not at the top: these import `logging`.
    from structlog.contextvars import bound_contextvars  # noqa: PLC0415

    from slipway_kit.trace_context import continued  # noqa: PLC0415

    with bound_contextvars(**job.log_context), continued(job.carrier):
        yield


@cache
def _set_up_log(pickled: bytes) -> None:
    pickle.loads(pickled)()  # noqa: S301 (from our own worker)
