"""Standard output for logs, which never holds up who writes.

Whatever reads the lines may stall, and its disk may be full. A blocking write would then stop the
event loop with its first full pipe. Here lines wait in memory, up to a limit, and those beyond it
are dropped and counted.
"""

import atexit
import os
import select
import stat
import threading
from collections import deque
from collections.abc import Iterator

from slipway_kit.metrics.instruments import Counter

DROPPED = Counter("log_lines_dropped", "Log lines that could not be written, or waited too long.")
# Some 3,000 lines.
LIMIT_BYTES = 2**20
# The kernel writes so much to a pipe in one piece, between the lines of other processes.
_PIECE_BYTES = select.PIPE_BUF if hasattr(select, "PIPE_BUF") else 512
# At the end of the process, for what still waits.
_LAST_SECONDS = 0.5


class LogStream:
    """A text stream of whole lines over a file descriptor, for all threads of a process."""

    def __init__(self, descriptor: int, *, limit_bytes: int = LIMIT_BYTES) -> None:
        own = _without_waiting(descriptor)
        self._descriptor, self._waits = (descriptor, True) if own is None else (own, False)
        self._limit_bytes = limit_bytes
        self._ready = select.poll()
        self._ready.register(self._descriptor, select.POLLOUT)
        self._begin()
        # What a parent has not written yet is for the parent to write.
        os.register_at_fork(after_in_child=self._begin)
        atexit.register(self._end)

    def _begin(self) -> None:
        # Whoever holds it may be interrupted by a signal whose handler logs.
        self._lock = threading.RLock()
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._emptied = threading.Event()
        self._emptied.set()

    def write(self, text: str) -> int:
        """Write whole lines, now or as soon as they are read; drop what there is no room for."""
        with self._lock:
            for piece in _pieces(text.encode(errors="backslashreplace")):
                rest = piece if self._waiting else self._try(piece)
                if rest:
                    self._keep(rest, begun=len(rest) < len(piece))
        return len(text)

    def flush(self) -> None:
        """Do nothing: what can be written is."""

    def _try(self, piece: bytes) -> bytes:
        """Write as much as goes without waiting, and return the rest."""
        if self._waits and not self._ready.poll(0):
            return piece
        try:
            return piece[os.write(self._descriptor, piece) :]
        except BlockingIOError:
            return piece
        except OSError:
            # The disk is full, or nobody reads any more.
            DROPPED.inc(piece.count(b"\n"))
            return b""

    def _keep(self, piece: bytes, *, begun: bool) -> None:
        # Half a line is finished in any case: it would spoil the next one.
        if self._waiting_bytes + len(piece) > self._limit_bytes and not begun:
            DROPPED.inc(piece.count(b"\n"))
            return
        self._waiting.append(piece)
        self._waiting_bytes += len(piece)
        if self._emptied.is_set():
            self._emptied.clear()
            threading.Thread(target=self._write_waiting, name="log-stream", daemon=True).start()

    def _write_waiting(self) -> None:
        ready = select.poll()
        ready.register(self._descriptor, select.POLLOUT)
        while True:
            ready.poll()
            with self._lock:
                self._write_some()
                # Told under the lock: the next line that has to wait has a thread of its own.
                if not self._waiting:
                    self._emptied.set()
                    return

    def _write_some(self) -> None:
        while self._waiting:
            piece = self._waiting.popleft()
            rest = self._try(piece)
            self._waiting_bytes -= len(piece) - len(rest)
            if rest:
                self._waiting.appendleft(rest)
                return

    def _end(self) -> None:
        self._emptied.wait(_LAST_SECONDS)


def _pieces(data: bytes) -> Iterator[bytes]:
    """Cut at line ends into pieces that the kernel does not tear; a longer line is one piece."""
    begin = 0
    while len(data) - begin > _PIECE_BYTES:
        end = data.rfind(b"\n", begin, begin + _PIECE_BYTES) + 1
        end = end or data.find(b"\n", begin) + 1 or len(data)
        yield data[begin:end]
        begin = end
    if begin < len(data):
        yield data[begin:]


def _without_waiting(descriptor: int) -> int | None:
    """Return a descriptor of the same pipe whose writes do not wait, or `None`.

    Opened anew, it is ours alone: to change the one that was handed down would change it for every
    process that has it. Linux alone knows this way, and for no sockets; there a pipe that has room
    may still fill up before the line is in it.
    """
    if not stat.S_ISFIFO(os.fstat(descriptor).st_mode):
        return None
    try:
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC
        return os.open(f"/proc/self/fd/{descriptor}", flags)
    except OSError:
        return None
