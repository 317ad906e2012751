"""A TCP proxy in front of a database's socket that a test can break in several ways."""

import socket
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Self
from urllib.parse import parse_qs, urlsplit


class Proxy:
    """Forwards connections to the server of `url`, until told to reset or to swallow them."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        folder = parse_qs(parts.query)["host"][0]
        self._target = str(Path(folder) / ".s.PGSQL.5432")
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}{parts.path}?sslmode=disable"
        self._open: set[socket.socket] = set()
        self._lock = threading.RLock()
        # Bytes from the server that pass before every connection is reset, or silent; None: all.
        self.budget: int | None = None
        self.falls_silent = False
        self.swallow = False

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.refuse()

    def refuse(self) -> None:
        """Stop listening and reset what is open."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.reset()

    def reset(self) -> None:
        """Break every open connection as a crashed machine does."""
        with self._lock:
            for end in self._open:
                # Lingering for no time sends a reset.
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self._close(self._open)

    def _close(self, ends: Iterable[socket.socket]) -> None:
        for end in list(ends):
            self._open.discard(end)
            # Closing alone does not wake a thread that reads.
            with suppress(OSError):
                end.shutdown(socket.SHUT_RD)
            end.close()

    def mend(self) -> None:
        """Let everything pass; what is open after this call is not reset for what was before."""
        with self._lock:
            self.budget = None

    def _passed_in_part(self, sink: socket.socket, data: bytes) -> bool:
        """Pass what the budget allows and run out with its last byte; without one do nothing."""
        with self._lock:
            if self.budget is None:
                return False
            part = data[: self.budget]
            self.budget -= len(part)
            sink.sendall(part)
            if self.budget == 0:
                self._run_out()
            return True

    def _run_out(self) -> None:
        if self.falls_silent:
            self.swallow = True
        else:
            self.reset()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._target)
            with self._lock:
                self._open |= {client, server}
            for source, sink in ((client, server), (server, client)):
                threading.Thread(
                    target=self._pump, args=(source, sink, sink is client), daemon=True
                ).start()

    def _pump(self, source: socket.socket, sink: socket.socket, from_server: bool) -> None:
        try:
            while data := source.recv(65536):
                if self.swallow:
                    continue
                if not from_server or not self._passed_in_part(sink, data):
                    sink.sendall(data)
        except OSError:
            pass
        finally:
            with self._lock:
                self._close((source, sink))
