"""What the lifespan opens once per worker and every request may borrow.

An opener gets the runtime and gives an async context manager; what that yields is found by its
type: `runtime.get(Database)`.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Annotated, Any

from fastapi import Depends
from starlette.requests import HTTPConnection

from slipway_kit.client.client import HttpClient, open_http_client
from slipway_kit.client.settings import HttpClientSettings
from slipway_kit.concurrency.offload import Offload, OffloadSettings, open_offload
from slipway_kit.concurrency.tasks import Tasks, open_tasks
from slipway_kit.config.server import ServerSettings
from slipway_kit.db.engine import open_database
from slipway_kit.db.sessions import Database
from slipway_kit.db.settings import DatabaseSettings
from slipway_kit.logs.setup import LogSetup
from slipway_kit.runtime import Runtime, runtime_of
from slipway_kit.tracing.provider import Traces

Opener = Callable[[Runtime], AbstractAsyncContextManager[Any]]
# By the names of their phases in the log, in the order in which they are opened.
Openers = Mapping[str, Opener]


def database(runtime: Runtime) -> AbstractAsyncContextManager[Database]:
    """Open the pool of connections."""
    return open_database(runtime.get(DatabaseSettings), spans=runtime.get(Traces).origin)


def offload(runtime: Runtime) -> AbstractAsyncContextManager[Offload]:
    """Open the threads and processes for calls that block or compute."""
    server = runtime.get(ServerSettings)
    return open_offload(
        runtime.get(OffloadSettings),
        threads_wait_seconds=server.threadpool_wait_seconds,
        grace_seconds=server.shutdown.close / 4,
        prepare=runtime.get(LogSetup).apply,
    )


def http_client(runtime: Runtime) -> AbstractAsyncContextManager[HttpClient]:
    """Open the client for other services."""
    return open_http_client(runtime.get(HttpClientSettings))


def tasks(runtime: Runtime) -> AbstractAsyncContextManager[Tasks]:
    """Open what supervises background tasks; open it after what they borrow."""
    return open_tasks(grace_seconds=runtime.get(ServerSettings).shutdown.close / 2)


class Resources:
    """Shared, long-lived objects; each is safe to use from many requests at once."""

    __slots__ = ("_runtime",)

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    @property
    def database(self) -> Database:
        """The pool of connections."""
        return self._runtime.get(Database)

    @property
    def offload(self) -> Offload:
        """Threads and processes for calls that block or compute."""
        return self._runtime.get(Offload)

    @property
    def tasks(self) -> Tasks:
        """Background tasks, which are awaited at shutdown."""
        return self._runtime.get(Tasks)

    @property
    def http(self) -> HttpClient:
        """The client for other services."""
        return self._runtime.get(HttpClient)


# async: a plain function would take a thread of the pool for each request.
async def get_resources(connection: HTTPConnection) -> Resources:
    """Find the resources of the running app, from an HTTP request or a WebSocket."""
    return runtime_of(connection).get(Resources)


ResourcesDep = Annotated[Resources, Depends(get_resources)]
