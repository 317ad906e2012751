"""Other rules for route shedding of the service, to compare with its own.

Each is an app for gunicorn, to be run with ADMISSION=off. The queue limits of pool, threads and
outbound calls stay as they are.
"""

import asyncio
import time
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from app.main import create_app
from benchmarks.services import REFUSED
from slipway_kit.http.probes import PROBES
from slipway_kit.overload.admission import Admission
from slipway_kit.runtime import runtime_of
from slipway_kit.server.protocol import HttpProtocol

FIXED = 24
LAG_SECONDS = 0.05
_LOOK_SECONDS = 0.005


class Refuser(Admission):
    """Refuses everything: what a refusal costs can be measured."""

    def start_now(self) -> bool:
        """Say no."""
        return False

    def enqueue(self, start: object) -> bool:
        """Say no."""
        del start
        self.refused += 1
        return False


class Fixed:
    """Lets in so many at a time."""

    def __init__(self, app: ASGIApp) -> None:
        """Have nobody inside yet."""
        self._app, self._inside = app, 0

    def full(self) -> bool:
        """Tell whether one more is too many."""
        return self._inside >= FIXED

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve or refuse one request."""
        if scope["type"] != "http" or scope["path"] in PROBES:
            await self._app(scope, receive, send)
            return
        if self.full():
            headers = [(b"retry-after", b"1"), (b"content-length", b"0")]
            await send({"type": "http.response.start", "status": REFUSED, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
            return
        self._inside += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._inside -= 1


class Lag(Fixed):
    """Lets in while a callback that is due runs soon."""

    def __init__(self, app: ASGIApp) -> None:
        """Look from the first request on."""
        super().__init__(app)
        self._asked: float | None = None
        self._lag = 0.0
        self._watching = False

    def full(self) -> bool:
        """Tell whether the loop is late."""
        if not self._watching:
            self._watching = True
            self._look()
        waited = 0.0 if self._asked is None else time.perf_counter() - self._asked
        return max(self._lag, waited) > LAG_SECONDS

    def _look(self) -> None:
        self._asked = time.perf_counter()
        asyncio.get_running_loop().call_soon(self._seen)

    def _seen(self) -> None:
        if self._asked is not None:
            self._lag, self._asked = time.perf_counter() - self._asked, None
        asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look)


def refusing() -> FastAPI:
    """Return the service that refuses every request in the protocol."""
    app = create_app()
    protocol: Any = runtime_of(app).get(HttpProtocol).factory
    protocol.keywords["admission"] = Refuser()
    return app


def fixed() -> FastAPI:
    """Return the service with a fixed number of requests at a time."""
    return _behind(Fixed)


def lag() -> FastAPI:
    """Return the service that looks how late its event loop is."""
    return _behind(Lag)


def _behind(rule: type[Fixed]) -> FastAPI:
    app = create_app()
    app.add_middleware(rule)
    return app
