"""What a service that this one asks may do wrong."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from slipway_kit.errors import DeadlineExceeded, Overloaded, Unavailable


class UpstreamUnavailable(Unavailable):
    """A service that this one asks is down, talks nonsense, or no connection to it is free."""

    detail = "A service that this one depends on is not available; try again soon."


class UpstreamBusy(UpstreamUnavailable, Overloaded):
    """So many calls wait for a connection that one more would wait for too long."""

    detail = "Too many requests wait for other services; try again soon."


class UpstreamTimeout(DeadlineExceeded):
    """A service that this one asks takes too long."""

    detail = "A service that this one depends on took too long to answer."


@contextmanager
def translated() -> Iterator[None]:
    """Turn what httpx raises into an outcome of ours; a mistake in the call stays a bug."""
    try:
        yield
    except (httpx.ReadTimeout, httpx.WriteTimeout) as error:
        raise UpstreamTimeout from error
    except (httpx.UnsupportedProtocol, httpx.LocalProtocolError):
        raise
    except (httpx.TransportError, httpx.DecodingError) as error:
        raise UpstreamUnavailable from error
