"""Errors with an HTTP meaning, and the one that stops the start."""

from http import HTTPStatus
from typing import ClassVar

__all__ = [
    "Conflict",
    "DeadlineExceeded",
    "NotFound",
    "Overloaded",
    "ServiceError",
    "SettingsError",
    "Unavailable",
]

# Of what is quoted of an error.
MAX_TEXT = 200


class SettingsError(Exception):
    """The configuration makes no sense; the text is one sentence for each thing to change."""


class ServiceError(Exception):
    """An outcome that the client can act on; its text is a sentence for them.

    Features subclass the classes below and name the situation; `detail` is the sentence of one that
    is raised without another. Anything else is a bug: 500.
    """

    status: ClassVar[HTTPStatus]
    detail: ClassVar[str] = ""
    retry_after_seconds: ClassVar[int | None] = None

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail or self.detail)

    @property
    def headers(self) -> dict[str, str]:
        """Headers that the answer carries beside the problem."""
        if self.retry_after_seconds is None:
            return {}
        return {"Retry-After": str(self.retry_after_seconds)}


class NotFound(ServiceError):
    """The thing that the request names does not exist."""

    status = HTTPStatus.NOT_FOUND


class Conflict(ServiceError):
    """The request contradicts what is already stored."""

    status = HTTPStatus.CONFLICT


class Unavailable(ServiceError):
    """Something that the service stands on does not answer; a later try may succeed."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    retry_after_seconds = 1


class Overloaded(Unavailable):
    """The service is at a limit that it set itself."""


class DeadlineExceeded(ServiceError):
    """The answer took longer than it may."""

    status = HTTPStatus.GATEWAY_TIMEOUT


def cause(error: BaseException) -> str | None:
    """Describe what made an error, in one short line for the log; `None` when nothing did."""
    reason = error.__cause__
    if reason is None:
        return None
    first_line = str(reason).partition("\n")[0]
    return f"{type(reason).__name__}: {first_line[:MAX_TEXT]}"
