"""Answers to requests that are refused before they start."""

import re
from http import HTTPStatus
from typing import ClassVar

from starlette.middleware.cors import CORSMiddleware
from starlette.types import Scope

from slipway_kit.config.server import ServerSettings
from slipway_kit.http.headers import Headers, new_request_id, request_id_given, security_headers
from slipway_kit.http.limits import cors_arguments
from slipway_kit.http.problem_details import MEDIA_TYPE, problem_response

# A placeholder that JSON and URL encoding leave as it is.
_MARK = "mark"
# Paths that JSON and URL encoding leave as they are.
_PLAIN = re.compile(rb"[A-Za-z0-9/_.~-]+")


class Refusals:
    """Builds problems with the headers that every answer of the service carries."""

    OVERLOADED: ClassVar = (503, "The service has more requests than it can serve; try again soon.")

    def __init__(self, server: ServerSettings) -> None:
        self._cors: CORSMiddleware | None = None
        if server.cors_origins:
            self._cors = CORSMiddleware(_nothing, **cors_arguments(server))
        self._always: Headers = [
            (b"content-type", MEDIA_TYPE.encode()),
            (b"x-processed-time", b"0.000000"),
            *security_headers(server),
        ]
        # The template of the usual refusal, which differs by path and request id only.
        status, detail = self.OVERLOADED
        marked = {"path": _MARK, "request_id": _MARK}
        body = bytes(problem_response(status, detail, marked).body)
        self._before, self._between, self._after = body.split(_MARK.encode())
        self._body_bytes = len(body) - 2 * len(_MARK)
        usual = [*self._always, (b"retry-after", b"1")]
        self._usual = b"".join(b"%b: %b\r\n" % header for header in usual)

    def usual(self, scope: Scope) -> bytes | None:
        """Return headers and body of `OVERLOADED` as HTTP/1.1 bytes, within microseconds.

        For a request that the template does not fit it is `None`: use `answer`.
        """
        given = None
        for name, value in scope["headers"]:
            if name == b"x-request-id":
                given = value
            elif name == b"origin":
                return None
        path: bytes = scope["raw_path"]
        if scope["method"] == "HEAD" or not _PLAIN.fullmatch(path):
            return None
        request_id = (request_id_given(given) or new_request_id()).encode()
        return b"%bcontent-length: %d\r\nx-request-id: %b\r\n\r\n%b%b%b%b%b" % (
            self._usual,
            self._body_bytes + len(path) + len(request_id),
            request_id,
            self._before,
            path,
            self._between,
            request_id,
            self._after,
        )

    def answer(self, scope: Scope, *, status: int, detail: str) -> tuple[Headers, bytes]:
        """Return the headers and the body for the request of an ASGI scope."""
        given = origin = None
        for name, value in scope["headers"]:
            if name == b"x-request-id":
                given = value
            elif name == b"origin":
                origin = value.decode("latin-1")
        request_id = scope["request_id"] = request_id_given(given) or new_request_id()
        body = bytes(problem_response(status, detail, scope).body)
        headers: Headers = [
            *self._always,
            (b"content-length", b"%d" % len(body)),
            (b"x-request-id", request_id.encode()),
        ]
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            headers.append((b"retry-after", b"1"))
        if origin is not None and self._cors is not None:
            headers += _for_browsers(self._cors, origin)
        return headers, body


def _for_browsers(cors: CORSMiddleware, origin: str) -> Headers:
    """Return the CORS headers for an allowed origin."""
    found = {name.lower(): value for name, value in cors.simple_headers.items()}
    if not cors.allow_all_origins:
        if not cors.is_allowed_origin(origin):
            return []
        found |= {"access-control-allow-origin": origin, "vary": "Origin"}
    return [(name.encode(), value.encode("latin-1")) for name, value in found.items()]


async def _nothing(*_: object) -> None:
    """Stand for the app of the middleware, which is used for its headers only."""
