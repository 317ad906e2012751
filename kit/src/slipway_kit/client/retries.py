"""Which outbound calls may be tried again, and after which pause."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import httpx
import stamina

IDEMPOTENT = {"GET", "HEAD", "OPTIONS", "PUT", "DELETE"}
# Asked again, the upstream or another instance of it may answer.
PASSING = {
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
}
# Between tries, unless the upstream names a time; seconds.
FIRST_PAUSE, LONGEST_PAUSE, JITTER = 0.05, 0.5, 0.05


@dataclass(slots=True)
class Call:
    """One outbound call with all its tries; `status` is 0 until it is answered."""

    method: str
    url: str
    options: Mapping[str, Any]
    status: int = 0

    @property
    def repeatable(self) -> bool:
        """Whether its body is there a second time: a stream or a file is not."""
        return (
            "files" not in self.options
            and isinstance(self.options.get("content"), str | bytes | None)
            and isinstance(self.options.get("data"), Mapping | None)
        )

    def passing(self, response: httpx.Response, left_seconds: float) -> bool:
        """Tell whether a later try may be answered otherwise, within the time that is left."""
        if not (self.repeatable and self.method in IDEMPOTENT and response.status_code in PASSING):
            return False
        pause = pause_asked_for(response)
        return (LONGEST_PAUSE if pause is None else pause) < left_seconds

    def pause_after(self, error: Exception) -> bool | float:
        """Tell whether to try again after an error, or after how many seconds."""
        if isinstance(error, Passing):
            return True if error.pause is None else error.pause
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            # Nothing was sent.
            return True
        broken = httpx.ReadError | httpx.WriteError | httpx.RemoteProtocolError
        return self.method in IDEMPOTENT and isinstance(error, broken)


class Passing(Exception):
    """An answer that a later try may not get."""

    def __init__(self, response: httpx.Response) -> None:
        super().__init__(f"status {response.status_code}")
        self.pause = pause_asked_for(response)


def tries(call: Call, *, attempts: int) -> AsyncIterator[stamina.Attempt]:
    """Give the tries of a call, each a context manager; the last error is raised as it is."""
    context = stamina.retry_context(
        on=call.pause_after,
        attempts=attempts if call.repeatable else 1,
        timeout=None,
        wait_initial=FIRST_PAUSE,
        wait_max=LONGEST_PAUSE,
        wait_jitter=JITTER,
    )
    return aiter(context)


def pause_asked_for(response: httpx.Response) -> float | None:
    """Read Retry-After, seconds or a date; `None` when it says nothing sensible."""
    header = response.headers.get("Retry-After", "")
    if header.isascii() and header.isdigit():
        return float(header)
    try:
        then = parsedate_to_datetime(header)
    except ValueError:
        return None
    then = then.replace(tzinfo=then.tzinfo or UTC)
    return max((then - datetime.now(UTC)).total_seconds(), 0)
