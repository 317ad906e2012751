"""Requests that are refused before they start: the answer, and admission as ASGI middleware."""

import asyncio
import re
from collections.abc import Mapping
from http import HTTPStatus
from random import getrandbits
from typing import ClassVar

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from slipway_kit.config.server import ServerSettings
from slipway_kit.http.limits import cors_arguments
from slipway_kit.http.observation import Headers, request_id_given, security_headers
from slipway_kit.http.probes import Drain
from slipway_kit.http.problem_details import MEDIA_TYPE, problem_response
from slipway_kit.overload.admission import Admission
from slipway_kit.overload.route_shedding import RouteShedding

# A placeholder that JSON and URL encoding leave as it is.
_MARK = "mark"
# Paths that JSON and URL encoding leave as they are.
_PLAIN = re.compile(rb"[A-Za-z0-9/_.~-]+")
_RETRY_AFTER = (b"retry-after", b"1")


class Refusals:
    """Builds problems with the headers that every answer of the service carries."""

    OVERLOADED: ClassVar = (503, "The service has more requests than it can serve; try again soon.")

    def __init__(self, server: ServerSettings) -> None:
        self._cors: CORSMiddleware | None = None
        if server.cors_origins:
            self._cors = CORSMiddleware(_nothing, **cors_arguments(server))
        self._always: Headers = [(b"x-processed-time", b"0.000000"), *security_headers(server)]
        # The template of the usual refusal, which differs by path and request id only.
        marked = {"path": _MARK, "request_id": _MARK}
        body = bytes(problem_response(*self.OVERLOADED, marked).body)
        self._body_bytes = len(body) - 2 * len(_MARK)
        usual = [*self._always, (b"content-type", MEDIA_TYPE.encode()), _RETRY_AFTER]
        self._usual = b"".join(b"%b: %b\r\n" % header for header in usual)
        self._usual += b"content-length: %d\r\nx-request-id: %b\r\n\r\n"
        self._usual += body.replace(_MARK.encode(), b"%b")

    def usual(self, scope: Scope) -> bytes | None:
        """Return headers and body of `OVERLOADED` as HTTP/1.1 bytes, within microseconds.

        For a request that the template does not fit it is `None`: use `answer`.
        """
        given, path = dict(scope["headers"]), scope["raw_path"]
        if b"origin" in given or scope["method"] == "HEAD" or not _PLAIN.fullmatch(path):
            return None
        request_id = _request_id(given).encode()
        length = self._body_bytes + len(path) + len(request_id)
        return self._usual % (length, request_id, path, request_id)

    def answer(self, scope: Scope, *, status: int, detail: str) -> tuple[Headers, bytes]:
        """Return the headers and the body for the request of an ASGI scope."""
        given = dict(scope["headers"])
        request_id = scope["request_id"] = _request_id(given)
        response = problem_response(status, detail, scope)
        if self._cors is not None and b"origin" in given:
            origin = given[b"origin"].decode("latin-1")
            response.headers.update(self._cors.simple_headers)
            if not self._cors.allow_all_origins and self._cors.is_allowed_origin(origin):
                self._cors.allow_explicit_origin(response.headers, origin)
        headers: Headers = [
            *response.raw_headers,
            *self._always,
            (b"x-request-id", request_id.encode()),
        ]
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            headers.append(_RETRY_AFTER)
        return headers, bytes(response.body)


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
        headers, body = self._refusals.answer(scope, status=status, detail=detail)
        if self._drain.draining:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _request_id(given: Mapping[bytes, bytes]) -> str:
    return request_id_given(given) or f"{getrandbits(128):032x}"


async def _nothing(*_: object) -> None:
    """Stand for an app."""
