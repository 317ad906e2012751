"""The headers that every answer carries, and the id of its request."""

import re
from random import getrandbits

from slipway_kit.config.server import ServerSettings

# What may come in as a request id and go out into logs: no spaces, quotes or line ends.
_ID = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")


Headers = list[tuple[bytes, bytes]]


def merged(headers: Headers, ours: Headers, defaults: Headers) -> Headers:
    """Return an answer's headers with ours in place of its own, which win over the defaults."""
    replaced, there = {name for name, _ in ours}, {name for name, _ in headers}
    return [
        *(header for header in headers if header[0] not in replaced),
        *ours,
        *(header for header in defaults if header[0] not in there),
    ]


def request_id_given(header: bytes | None) -> str | None:
    """Return the id that a client sent, unless it would not do in a log or a header."""
    return header.decode() if header is not None and _ID.fullmatch(header) else None


def new_request_id() -> str:
    """Return the id of a request that has no trace."""
    return f"{getrandbits(128):032x}"


def security_headers(server: ServerSettings) -> Headers:
    """Return what every answer tells browsers, unless it says otherwise itself."""
    headers = [
        (b"x-content-type-options", b"nosniff"),
        (b"content-security-policy", b"frame-ancestors 'none'"),
        (b"referrer-policy", b"no-referrer"),
    ]
    if server.hsts_seconds:
        hsts = b"max-age=%d; includeSubDomains" % server.hsts_seconds
        headers.append((b"strict-transport-security", hsts))
    return headers
