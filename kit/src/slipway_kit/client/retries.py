"""Which outbound calls are retried, and after which pause."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import httpx
import stamina

from slipway_kit.clock import now

IDEMPOTENT = {"GET", "HEAD", "OPTIONS", "PUT", "DELETE"}
TRANSIENT_STATUSES = {
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
}
# Pauses between attempts without a Retry-After header, seconds.
FIRST_PAUSE, LONGEST_PAUSE, JITTER = 0.05, 0.5, 0.05


@dataclass(slots=True)
class Call:
    """One outbound call with all its attempts; `status` is 0 until there is a response."""

    method: str
    url: str
    options: Mapping[str, Any]
    deadline: float
    status: int = 0

    @property
    def remaining_seconds(self) -> float:
        """The time until the deadline, negative after it."""
        return self.deadline - now()

    @property
    def repeatable(self) -> bool:
        """Whether the body can be sent again: a stream or a file cannot."""
        return (
            "files" not in self.options
            and isinstance(self.options.get("content"), str | bytes | None)
            and isinstance(self.options.get("data"), Mapping | None)
        )

    def should_retry(self, response: httpx.Response) -> bool:
        """Whether a retry may succeed in the remaining time."""
        if not (
            self.repeatable
            and self.method in IDEMPOTENT
            and response.status_code in TRANSIENT_STATUSES
        ):
            return False
        pause = retry_after_seconds(response)
        return (LONGEST_PAUSE if pause is None else pause) < self.remaining_seconds

    def pause_after(self, error: Exception) -> bool | float:
        """Return whether to retry after an error, or the seconds to wait before."""
        if isinstance(error, TransientResponse):
            return True if error.pause is None else error.pause
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            # Nothing was sent.
            return True
        broken = httpx.ReadError | httpx.WriteError | httpx.RemoteProtocolError
        return self.method in IDEMPOTENT and isinstance(error, broken)


class TransientResponse(Exception):
    """A response whose status may differ on the next attempt."""

    def __init__(self, response: httpx.Response) -> None:
        super().__init__(f"status {response.status_code}")
        self.pause = retry_after_seconds(response)


def attempts(call: Call, *, limit: int) -> AsyncIterator[stamina.Attempt]:
    """Return the attempts of a call, each a context manager; the last error is raised as it is."""
    context = stamina.retry_context(
        on=call.pause_after,
        attempts=limit if call.repeatable else 1,
        timeout=None,
        wait_initial=FIRST_PAUSE,
        wait_max=LONGEST_PAUSE,
        wait_jitter=JITTER,
    )
    return aiter(context)


def retry_after_seconds(response: httpx.Response) -> float | None:
    """Parse Retry-After, seconds or a date; `None` when it is missing or invalid."""
    header = response.headers.get("Retry-After", "")
    if header.isascii() and header.isdigit():
        return float(header)
    try:
        then = parsedate_to_datetime(header)
    except ValueError:
        return None
    then = then.replace(tzinfo=then.tzinfo or UTC)
    return max((then - datetime.now(UTC)).total_seconds(), 0)
