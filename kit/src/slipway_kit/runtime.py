"""The parts of one running service, each found by its type."""

from typing import TypeVar, cast

from starlette.applications import Starlette
from starlette.requests import HTTPConnection

P = TypeVar("P")


class Runtime:
    """The parts of one application by type, one of each."""

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        self._parts: dict[type, object] = {}

    def add(self, part: P, kind: type[P] | None = None) -> P:
        """Register `part` under its class or `kind`, a base class; it replaces an earlier one."""
        self._parts[kind or type(part)] = part
        return part

    def get(self, kind: type[P]) -> P:
        """Return the part of this type or raise `LookupError`."""
        try:
            return cast("P", self._parts[kind])
        except KeyError:
            raise LookupError(
                f"The runtime has no {kind.__qualname__}: add one where the service is assembled;"
                " parts that the lifespan opens exist only while the service runs."
            ) from None


def runtime_of(of: Starlette | HTTPConnection) -> Runtime:
    """Return the runtime of an application, or of the one that serves a request or WebSocket."""
    app: Starlette = of.app if isinstance(of, HTTPConnection) else of
    try:
        runtime: Runtime = app.state.runtime
    except AttributeError:
        runtime = app.state.runtime = Runtime()
    return runtime
