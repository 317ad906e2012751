"""Resources that the lifespan opens once per worker and all requests share.

An opener gets the runtime and returns an async context manager. What that yields is found by its
type: `runtime.get(Database)`.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Annotated, Any

from fastapi import Depends
from starlette.requests import HTTPConnection

from slipway_kit.client.client import HttpClient, open_http_client
from slipway_kit.client.settings import HttpClientSettings
from slipway_kit.concurrency.offload import Offload, open_offload
from slipway_kit.concurrency.process_pool import OffloadSettings
from slipway_kit.concurrency.tasks import Tasks
from slipway_kit.config.server import ServerSettings
from slipway_kit.db.engine import open_database
from slipway_kit.db.sessions import Database
from slipway_kit.db.settings import DatabaseSettings
from slipway_kit.logs.setup import LogSetup
from slipway_kit.runtime import Runtime, runtime_of

Opener = Callable[[Runtime], AbstractAsyncContextManager[Any]]
# By the name of the phase in the log, in opening order.
Openers = Mapping[str, Opener]


def database(runtime: Runtime) -> AbstractAsyncContextManager[Database]:
    """Open the database."""
    return open_database(runtime.get(DatabaseSettings))


def offload(runtime: Runtime) -> AbstractAsyncContextManager[Offload]:
    """Open the threads and processes for blocking calls and CPU work."""
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
    """Open the background tasks; open it after the resources that tasks use."""
    return Tasks().running(grace_seconds=runtime.get(ServerSettings).shutdown.close / 2)


class Resources:
    """The resources of one worker; each is safe for concurrent use."""

    __slots__ = ("_runtime",)

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    @property
    def database(self) -> Database:
        """The database."""
        return self._runtime.get(Database)

    @property
    def offload(self) -> Offload:
        """Threads and processes for blocking calls and CPU work."""
        return self._runtime.get(Offload)

    @property
    def tasks(self) -> Tasks:
        """Background tasks, which are drained at shutdown."""
        return self._runtime.get(Tasks)

    @property
    def http(self) -> HttpClient:
        """The client for other services."""
        return self._runtime.get(HttpClient)


# async: a plain function would use a thread of the pool for each request.
async def get_resources(connection: HTTPConnection) -> Resources:
    """Return the resources of the running app, for an HTTP request or a WebSocket."""
    return runtime_of(connection).get(Resources)


ResourcesDep = Annotated[Resources, Depends(get_resources)]
