"""What the lifespan opens once per worker and every request may borrow."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection

from slipway_kit.client.client import HttpClient
from slipway_kit.concurrency.offload import Offload
from slipway_kit.concurrency.tasks import Tasks
from slipway_kit.db.sessions import Database


@dataclass(frozen=True, slots=True)
class Resources:
    """Shared, long-lived objects; each is safe to use from many requests at once."""

    database: Database
    offload: Offload
    tasks: Tasks
    http: HttpClient


# async: a plain function would take a thread of the pool for each request.
async def get_resources(connection: HTTPConnection) -> Resources:
    """Find the resources of the running app, from an HTTP request or a WebSocket."""
    resources: Resources = connection.app.state.resources
    return resources


ResourcesDep = Annotated[Resources, Depends(get_resources)]
