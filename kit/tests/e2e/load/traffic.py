"""What a client asks, and how it knows that an answer is right."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from kit.tests.e2e.load.wire import Answer, Failure

Told = TypeVar("Told")


def _nothing_wrong(answer: Answer | None) -> str | None:
    """Find nothing wrong."""
    return None


@dataclass(frozen=True, slots=True)
class Request:
    """One request; `settle` is told its answer and says what is wrong with it.

    When anything is wrong, or there is no answer at all, it is told `None` in the end.
    """

    kind: str
    method: str
    target: str
    body: bytes = field(default=b"", repr=False)
    media_type: str = ""
    status: int = 200
    settle: Callable[[Answer | None], str | None] = _nothing_wrong

    def judge(self, answer: Answer) -> None:
        """Raise `Failure` unless the answer is the one that was asked for."""
        if answer.status != self.status:
            kind = f"{answer.status} problem" if answer.problem else str(answer.status)
            raise Failure(kind, answer.body[:200].decode(errors="replace"))
        _judge(self.settle, answer, answer.body.decode(errors="replace"))


@dataclass(frozen=True, slots=True)
class Question:
    """One message of a socket; `settle` is told as that of a request is."""

    text: str
    settle: Callable[[str | None], str | None]

    def judge(self, answer: str) -> None:
        """Raise `Failure` unless the answer is the right one."""
        _judge(self.settle, answer, answer)


def _judge(settle: Callable[[Told | None], str | None], answer: Told, text: str) -> None:
    try:
        wrong = settle(answer)
    except ValueError as error:
        wrong = f"not JSON, {error}"
    if wrong:
        raise Failure("wrong answer", f"{wrong}: {text[:200]}")


Ask = Callable[[Request], Awaitable[Answer]]


class Traffic(Protocol):
    """What is asked of a service."""

    # Where sockets are opened; None: nowhere.
    socket: str | None

    async def prepare(self, ask: Ask) -> None:
        """Make what is asked for later."""

    def next(self) -> Request:
        """Return the next request of the mixture."""

    def read(self) -> Request:
        """Return one that changes nothing."""

    def question(self) -> Question:
        """Return the next message of a socket."""

    async def read_back(self, ask: Ask) -> dict[str, Any]:
        """Look for everything that was acknowledged; tell how much, and what is `missing`."""


class Health:
    """What every service answers."""

    socket: str | None = None

    async def prepare(self, ask: Ask) -> None:
        """Need nothing."""

    def next(self) -> Request:
        """Ask for its health."""

        def settle(answer: Answer | None) -> str | None:
            if answer is None or json.loads(answer.body) == {"status": "healthy"}:
                return None
            return "not healthy"

        return Request("read", "GET", "/health", settle=settle)

    def read(self) -> Request:
        """Ask the same."""
        return self.next()

    def question(self) -> Question:
        """Open no socket."""
        raise NotImplementedError

    async def read_back(self, ask: Ask) -> dict[str, Any]:
        """Have written nothing."""
        return {}
