"""The route of a request: its template, and where its function runs."""

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from fastapi.dependencies.models import _is_async_gen_callable, _is_coroutine_callable
from prometheus_fastapi_instrumentator.routing import get_route_name
from starlette.requests import HTTPConnection
from starlette.types import Scope

# The route of a request without one, in the log.
UNMATCHED = "unmatched"
# Statuses without a route: not found, or a redirect that adds or removes a slash.
_UNROUTED = frozenset({307, 404})


def runs_on_loop(call: Callable[..., Any] | None) -> bool:
    """Tell whether FastAPI runs `call` on the event loop instead of in a thread."""
    return _is_coroutine_callable(call) or _is_async_gen_callable(call)


def route_template(scope: Scope) -> str | None:
    """Return the template of the matched route with every prefix, never the path itself."""
    # FastAPI keeps the template of an HTTP route in its own context.
    context = scope.get("fastapi", {}).get("effective_route_context")
    return getattr(context, "path", None) or getattr(scope.get("route"), "path", None) or None


def route_of(scope: Scope, *, status: int) -> str | None:
    """Return the template, also of a request that was answered before routing."""
    template = route_template(scope)
    if template or status in _UNROUTED or scope["type"] != "http" or "app" not in scope:
        return template
    return get_route_name(HTTPConnection(scope), should_include_root_path=False)


def slash_redirect(scope: Scope, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Make the framework's redirect to one slash more or less relative.

    It names the scheme and the Host header that it saw, and a proxy in front may have changed both,
    and the prefix.
    """
    if b"://" not in dict(headers)[b"location"]:
        return headers
    path: str = scope["path"]
    last = quote(path.rstrip("/").rpartition("/")[2])
    slashes = len(path) - len(path.rstrip("/"))
    target = ("../" * slashes + last if slashes else f"./{last}/").encode()
    if scope["query_string"]:
        target += b"?" + scope["query_string"]
    return [(name, target if name == b"location" else value) for name, value in headers]
