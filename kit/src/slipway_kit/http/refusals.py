"""Requests that are refused before they start: the answer, and admission as ASGI middleware."""

import asyncio
from functools import cache
from http import HTTPStatus
from random import getrandbits
from typing import ClassVar

from starlette.types import ASGIApp, Receive, Scope, Send

from slipway_kit.config.server import ServerSettings
from slipway_kit.http.answer_headers import (
    Headers,
    for_browsers,
    request_id_given,
    security_headers,
)
from slipway_kit.http.probes import Drain
from slipway_kit.http.problem_details import MEDIA_TYPE, encoded_path, problem_response
from slipway_kit.overload.admission import Admission
from slipway_kit.overload.route_shedding import RouteShedding

# A placeholder that JSON and URL encoding leave as it is.
_MARK = "mark"


class Refusals:
    """Builds problems with the headers that every answer of the service carries."""

    OVERLOADED: ClassVar = (503, "The service has more requests than it can serve; try again soon.")

    def __init__(self, server: ServerSettings) -> None:
        self._for_browsers = for_browsers(server)
        self._always = _lines(
            [
                (b"content-type", MEDIA_TYPE.encode()),
                (b"x-processed-time", b"0.000000"),
                *security_headers(server),
            ]
        )

    def answer(self, scope: Scope, *, status: int, detail: str) -> tuple[bytes, bytes]:
        """Return the header lines and the body for the request of an ASGI scope."""
        given = dict(scope["headers"])
        known = scope.get("request_id") or request_id_given(given)
        request_id = (known or f"{getrandbits(128):032x}").encode()
        body = _template(status, detail) % (encoded_path(scope).encode(), request_id)
        head = b"%bcontent-length: %d\r\nx-request-id: %b\r\n" % (
            self._always,
            len(body),
            request_id,
        )
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            head += b"retry-after: 1\r\n"
        return head + _lines(self._for_browsers(given)), body


@cache
def _template(status: int, detail: str) -> bytes:
    """Return the body with places for path and request id, which are safe in JSON."""
    marked = {"path": _MARK, "request_id": _MARK}
    return bytes(problem_response(status, detail, marked).body).replace(_MARK.encode(), b"%b")


def _lines(headers: Headers) -> bytes:
    return b"".join(b"%b: %b\r\n" % header for header in headers)


def header_pairs(head: bytes) -> Headers:
    """Return the names and values of header lines."""
    lines = [line.partition(b": ") for line in head.splitlines()]
    return [(name, value) for name, _, value in lines]


class AdmissionMiddleware:
    """Admits requests under any ASGI server; a refusal costs more than in the protocol."""

    def __init__(  # noqa: PLR0913 (each is used)
        self,
        app: ASGIApp,
        *,
        admission: Admission,
        refusals: Refusals,
        drain: Drain,
        shedding: RouteShedding,
        always: frozenset[str],
    ) -> None:
        self._app, self._admission, self._refusals = app, admission, refusals
        self._drain, self._shedding, self._always = drain, shedding, always

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request at once or after its queueing delay, or refuse it."""
        admission = self._admission
        if scope["type"] != "http" or scope["path"] in self._always:
            await self._app(scope, receive, send)
            return
        if queue_limit := self._shedding.refusing_limit(scope):
            queue_limit.count_refusal()
            await self._refuse(scope, send)
            return
        if not admission.start_now():
            scope["arrived"] = admission.clock()
            started = asyncio.Event()
            if not admission.enqueue(started.set):
                await self._refuse(scope, send)
                return
            await started.wait()
        await self._app(scope, receive, send)

    async def _refuse(self, scope: Scope, send: Send) -> None:
        status, detail = self._refusals.OVERLOADED
        head, body = self._refusals.answer(scope, status=status, detail=detail)
        headers = header_pairs(head)
        if self._drain.draining:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
