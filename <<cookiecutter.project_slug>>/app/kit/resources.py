"""What the lifespan opens once per worker and every request may borrow."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection

from .database import Database
from .http_client import HttpClient
from .offload import Offload
from .tasks import Tasks


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
