"""Headers that every answer of the service carries: its id, security, and CORS."""

import re
from collections.abc import Callable, Mapping

from starlette.datastructures import MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from slipway_kit.config.server import ServerSettings
from slipway_kit.http.limits import cors_arguments

Headers = list[tuple[bytes, bytes]]

# Request ids that are safe in logs and headers: no spaces, quotes or line ends.
_SAFE_ID = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")


def request_id_given(headers: Mapping[bytes, bytes]) -> str | None:
    """Return the client's request id if it is safe in a log and a header."""
    given = headers.get(b"x-request-id")
    return given.decode() if given and _SAFE_ID.fullmatch(given) else None


def security_headers(server: ServerSettings) -> Headers:
    """Return the default security headers."""
    headers = [
        (b"x-content-type-options", b"nosniff"),
        (b"content-security-policy", b"frame-ancestors 'none'"),
        (b"referrer-policy", b"no-referrer"),
    ]
    if server.hsts_seconds:
        hsts = b"max-age=%d; includeSubDomains" % server.hsts_seconds
        headers.append((b"strict-transport-security", hsts))
    return headers


def for_browsers(server: ServerSettings) -> Callable[[Mapping[bytes, bytes]], Headers]:
    """Return what makes the headers of `CORSMiddleware`, for answers that it does not see.

    It takes the headers of a request, and returns those that let a page read the answer.
    """
    if not server.cors_origins:
        return lambda _: []
    cors = CORSMiddleware(Response(), **cors_arguments(server))

    def headers_for(asked: Mapping[bytes, bytes]) -> Headers:
        if b"origin" not in asked:
            return []
        found, origin = MutableHeaders(cors.simple_headers), asked[b"origin"].decode("latin-1")
        if not cors.allow_all_origins and cors.is_allowed_origin(origin):
            cors.allow_explicit_origin(found, origin)
        return found.raw

    return headers_for
