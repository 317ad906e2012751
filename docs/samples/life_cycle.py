"""What FastAPI does when with dependencies: the page about them shows what this notes."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import BackgroundTasks, Depends, FastAPI

events: list[str] = []
application = FastAPI()


async def base() -> str:
    """Be shared: two dependencies below want it, and it runs once a request."""
    events.append("base runs")
    return "base"


async def open_function(base: Annotated[str, Depends(base)]) -> AsyncIterator[str]:
    """Close before the response is sent, like `SessionDep`."""
    events.append("function opens")
    yield base
    events.append("function closes")


async def open_request(base: Annotated[str, Depends(base)]) -> AsyncIterator[str]:
    """Close after the response was sent, and after background tasks: FastAPI's default."""
    events.append("request opens")
    yield base
    events.append("request closes")


@application.get("/")
async def endpoint(
    first: Annotated[str, Depends(open_function, scope="function")],
    second: Annotated[str, Depends(open_request)],
    background: BackgroundTasks,
) -> str:
    """Return the text of both."""
    events.append("endpoint runs")
    background.add_task(events.append, "background task runs")
    return first + second
