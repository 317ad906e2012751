"""Errors with an HTTP status, and `SettingsError`, which stops the start."""

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

# Characters of an error that are quoted.
MAX_TEXT = 200


class SettingsError(Exception):
    """The configuration is invalid; the text has one sentence for each thing to change."""


class ServiceError(Exception):
    """An outcome that the client can act on; its text is a sentence for the client.

    Features subclass the classes below and name the situation; `detail` is the default text. Any
    other exception is a bug, answered with 500.
    """

    status: ClassVar[HTTPStatus]
    detail: ClassVar[str] = ""
    retry_after_seconds: ClassVar[int | None] = None

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail or self.detail)

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the answer."""
        seconds = self.retry_after_seconds
        return {} if seconds is None else {"Retry-After": str(seconds)}


class NotFound(ServiceError):
    """The resource does not exist."""

    status = HTTPStatus.NOT_FOUND


class Conflict(ServiceError):
    """The request conflicts with the stored state."""

    status = HTTPStatus.CONFLICT


class Unavailable(ServiceError):
    """A dependency does not answer; a retry may succeed."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    retry_after_seconds = 1


class Overloaded(Unavailable):
    """The service sheds load: one of its own limits is reached."""


class DeadlineExceeded(ServiceError):
    """The deadline passed before the answer."""

    status = HTTPStatus.GATEWAY_TIMEOUT


def error_lines(error: Exception) -> str:
    """Return the text of an error for a terminal: each line begins with `error: `."""
    return "\n".join(f"error: {line}" for line in str(error).splitlines())


def cause(error: BaseException) -> str | None:
    """Describe the cause of an error in one short line, or return `None` without a cause."""
    reason = error.__cause__
    if reason is None:
        return None
    first_line = str(reason).partition("\n")[0]
    return f"{type(reason).__name__}: {first_line[:MAX_TEXT]}"
