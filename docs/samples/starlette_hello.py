"""The same on Starlette, which brings routes, requests and responses."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route


async def hello(request: Request) -> PlainTextResponse:
    """Answer one request."""
    return PlainTextResponse(f"Hello, {request.url.path}!")


application = Starlette(routes=[Route("/{name}", hello)])
