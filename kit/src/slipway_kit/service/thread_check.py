"""Whether the threads of plain `def` code fit the connections of the pool."""

from collections.abc import Callable, Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts

from slipway_kit.db.sessions import get_read_session, get_session
from slipway_kit.db.settings import DatabaseSettings
from slipway_kit.errors import SettingsError
from slipway_kit.http.routes import runs_on_loop


def refuse_more_threads_than_pool(
    app: FastAPI, settings: DatabaseSettings, *, threads: int
) -> None:
    """Raise `SettingsError` when plain `def` code waits for connections that its threads hold up.

    Beyond the pool every further thread only waits, and throughput collapses.
    """
    connections = settings.pool_size + settings.max_overflow
    if threads <= connections:
        return
    for route in iter_route_contexts(app.routes):
        dependant = getattr(route, "dependant", None)
        if not dependant or not uses_session(dependant):
            continue
        if not all(map(runs_on_loop, _calls(dependant))):
            raise SettingsError(
                f"THREADPOOL_TOKENS is {threads} and {route.path} uses the database from a plain"
                f" def, with {connections} connections; lower it to {connections}"
                " or raise DATABASE_POOL_SIZE."
            )


def uses_session(dependant: Dependant) -> bool:
    """Tell whether a route borrows a session for the time of its function."""
    borrowed = {get_session, get_read_session}
    return not borrowed.isdisjoint(_calls(dependant))


def _calls(dependant: Dependant) -> Iterator[Callable[..., Any] | None]:
    yield dependant.call
    for inner in dependant.dependencies:
        yield from _calls(inner)
