"""Errors of outbound calls, with an HTTP meaning."""

from slipway_kit.errors import DeadlineExceeded, Overloaded, Unavailable


class UpstreamUnavailable(Unavailable):
    """The upstream is down or sent an invalid response, or no connection is free."""

    detail = "A service that this one depends on is not available; try again soon."


class UpstreamBusy(UpstreamUnavailable, Overloaded):
    """The queueing delay for an outbound connection would be too long."""

    detail = "Too many requests are waiting for other services; try again soon."


class UpstreamTimeout(DeadlineExceeded):
    """The upstream did not answer in time."""

    detail = "A service that this one depends on took too long to answer."
