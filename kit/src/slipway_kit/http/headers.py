"""Headers of every answer, and request ids."""

import re
from random import getrandbits

from slipway_kit.config.server import ServerSettings

# Request ids that are safe in logs and headers: no spaces, quotes or line ends.
_ID = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")


Headers = list[tuple[bytes, bytes]]


def merged(headers: Headers, ours: Headers, defaults: Headers) -> Headers:
    """Return the headers of an answer: `ours` replace its own, its own replace `defaults`."""
    replaced, there = {name for name, _ in ours}, {name for name, _ in headers}
    return [
        *(header for header in headers if header[0] not in replaced),
        *ours,
        *(header for header in defaults if header[0] not in there),
    ]


def request_id_given(header: bytes | None) -> str | None:
    """Return the client's request id if it is safe in a log and a header."""
    return header.decode() if header is not None and _ID.fullmatch(header) else None


def new_request_id() -> str:
    """Return a random request id."""
    return f"{getrandbits(128):032x}"


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
