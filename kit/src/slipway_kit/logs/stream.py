"""Non-blocking standard output for logs.

When the log collector stalls, a blocking write would stop the event loop at a full pipe. Here lines
are buffered in memory up to a limit; those beyond it are dropped and counted.
"""

import atexit
import os
import select
import stat
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import suppress

from slipway_kit.metrics.instruments import Counter

DROPPED = Counter("log_lines_dropped", "Log lines dropped: buffer full, or write failed.")
# Some 3,000 lines.
LIMIT_BYTES = 2**20
# Writes to a pipe are atomic up to this size.
_ATOMIC_BYTES = select.PIPE_BUF if hasattr(select, "PIPE_BUF") else 512
# For buffered lines at the exit of the process.
_EXIT_SECONDS = 0.5


class LogStream:
    """A text stream of whole lines over a file descriptor, for all threads of a process."""

    def __init__(self, descriptor: int, *, limit_bytes: int = LIMIT_BYTES) -> None:
        self._descriptor, self._blocks = _reopened(descriptor)
        self._limit_bytes = limit_bytes
        self._ready = self._poll()
        self._reset()
        # The parent writes its own buffer.
        os.register_at_fork(after_in_child=self._reset)
        atexit.register(lambda: self._emptied.wait(_EXIT_SECONDS))

    def _poll(self) -> select.poll:
        # Each thread needs its own.
        ready = select.poll()
        ready.register(self._descriptor, select.POLLOUT)
        return ready

    def _reset(self) -> None:
        # Reentrant: a signal handler may log while the lock is held.
        self._lock = threading.RLock()
        self._buffer: deque[bytes] = deque()
        self._buffered_bytes = 0
        self._emptied = threading.Event()
        self._emptied.set()

    def write(self, text: str) -> int:
        """Write lines now, or buffer them, or drop them when the buffer is full."""
        with self._lock:
            for piece in _pieces(text.encode(errors="backslashreplace")):
                rest = piece if self._buffer else self._try(piece)
                if rest:
                    self._append(rest, begun=len(rest) < len(piece))
        return len(text)

    def flush(self) -> None:
        """Do nothing: writes are immediate where possible."""

    def _try(self, piece: bytes) -> bytes:
        """Write as much as possible without blocking, and return the rest."""
        if self._blocks and not self._ready.poll(0):
            return piece
        try:
            return piece[os.write(self._descriptor, piece) :]
        except BlockingIOError:
            return piece
        except OSError:
            # The disk is full, or the reader has ended.
            DROPPED.inc(piece.count(b"\n"))
            return b""

    def _append(self, piece: bytes, *, begun: bool) -> None:
        # The rest of a partly written line is kept in any case.
        if self._buffered_bytes + len(piece) > self._limit_bytes and not begun:
            DROPPED.inc(piece.count(b"\n"))
            return
        self._buffer.append(piece)
        self._buffered_bytes += len(piece)
        if self._emptied.is_set():
            self._emptied.clear()
            try:
                threading.Thread(target=self._drain, name="log-stream", daemon=True).start()
            except RuntimeError:
                # No thread is left; the next line tries again.
                self._emptied.set()

    def _drain(self) -> None:
        ready = self._poll()
        while True:
            ready.poll()
            with self._lock:
                self._write_some()
                if self._emptied.is_set():
                    return

    def _write_some(self) -> None:
        while self._buffer:
            piece = self._buffer.popleft()
            rest = self._try(piece)
            self._buffered_bytes -= len(piece) - len(rest)
            if rest:
                self._buffer.appendleft(rest)
                return
        # Set under the lock: the next buffered line starts a new thread.
        self._emptied.set()


def _pieces(data: bytes) -> Iterator[bytes]:
    """Split at line ends into atomic pieces; a longer line is one piece."""
    begin = 0
    while len(data) - begin > _ATOMIC_BYTES:
        end = data.rfind(b"\n", begin, begin + _ATOMIC_BYTES) + 1
        end = end or data.find(b"\n", begin) + 1 or len(data)
        yield data[begin:end]
        begin = end
    if begin < len(data):
        yield data[begin:]


def _reopened(descriptor: int) -> tuple[int, bool]:
    """Return a descriptor of the same file, and whether writing to it may block.

    A pipe is opened again, for O_NONBLOCK on the inherited descriptor would affect every process
    that shares it. Only Linux can do this, and not for sockets.
    """
    if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC
        with suppress(OSError):
            return os.open(f"/proc/self/fd/{descriptor}", flags), False
    return descriptor, True
