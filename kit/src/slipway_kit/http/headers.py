"""Request ids, and the headers of every answer."""

import re
from collections.abc import Mapping

from slipway_kit.config.server import ServerSettings

# Request ids that are safe in logs and headers: no spaces, quotes or line ends.
_ID = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")

Headers = list[tuple[bytes, bytes]]


def request_id_given(headers: Mapping[bytes, bytes]) -> str | None:
    """Return the client's request id if it is safe in a log and a header."""
    given = headers.get(b"x-request-id")
    return given.decode() if given and _ID.fullmatch(given) else None


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
