"""HEAD of every GET route, which FastAPI answers with 405."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

from fastapi.routing import iter_route_contexts
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send


async def serve_head(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve HEAD without a body: as GET, unless a route of this path has HEAD itself."""
    ended = False

    async def send_head(message: Message) -> None:
        nonlocal ended
        if ended:
            # Others have their turn, and the stream hears that it is over.
            await asyncio.sleep(0)
            return
        if message["type"] == "http.response.body":
            # The server reports the client as gone, which ends a stream.
            ended, message = True, {"type": "http.response.body", "body": b""}
        await send(message)

    if any(
        "HEAD" in (route.methods or ()) and route.matches(scope)[0] == Match.FULL
        for route in iter_route_contexts(scope["app"].routes)
        if hasattr(route, "methods")
    ):
        await app(scope, receive, send_head)
        return
    asked: MutableMapping[str, Any] = {**scope, "method": "GET"}
    try:
        await app(asked, receive, send_head)
    finally:
        # The route, for log and metrics.
        scope.update({name: asked[name] for name in asked.keys() - scope.keys()})
