"""Checks that plain `def` routes have no more threads than database connections."""

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
    """Raise `SettingsError` when plain `def` code uses the database with too many threads.

    Every thread beyond the pool only waits for a connection, and throughput collapses.
    """
    connections = settings.pool_size + settings.max_overflow
    if threads <= connections:
        return
    for route in iter_route_contexts(app.routes):
        dependant = getattr(route, "dependant", None)
        if dependant and uses_session(dependant) and not all(map(runs_on_loop, _calls(dependant))):
            raise SettingsError(
                f"THREADPOOL_TOKENS is {threads} and {route.path} uses the database from a plain"
                f" def, with {connections} connections; lower it to {connections}"
                " or raise DATABASE_POOL_SIZE."
            )


def uses_session(dependant: Dependant) -> bool:
    """Whether a route depends on a database session."""
    return not {get_session, get_read_session}.isdisjoint(_calls(dependant))


def _calls(dependant: Dependant) -> Iterator[Callable[..., Any] | None]:
    yield dependant.call
    for inner in dependant.dependencies:
        yield from _calls(inner)
