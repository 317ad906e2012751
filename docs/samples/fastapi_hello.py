"""The same on FastAPI, which brings validation, dependencies and an OpenAPI document."""

from typing import Annotated

from fastapi import FastAPI, Path
from fastapi.responses import PlainTextResponse

application = FastAPI()


@application.get("/{name}", response_class=PlainTextResponse)
async def hello(name: Annotated[str, Path(max_length=20)]) -> str:
    """Answer one request, or 422 for a name that is too long."""
    return f"Hello, /{name}!"
