"""The template of the route that a request took, which logs, metrics and traces name it by."""

from prometheus_fastapi_instrumentator.routing import get_route_name
from starlette.requests import HTTPConnection
from starlette.types import Scope

# What a log line calls a request without one.
UNMATCHED = "unmatched"
# Answers that no route gives: none was found, or one with another slash at its end.
_UNROUTED = frozenset({307, 404})


def route_template(scope: Scope) -> str | None:
    """Return the template of the matched route with every prefix, never the path itself."""
    # FastAPI leaves the whole template of an HTTP route in its own context, and that of a WebSocket
    # in the route.
    context = scope.get("fastapi", {}).get("effective_route_context")
    return getattr(context, "path", None) or getattr(scope.get("route"), "path", None) or None


def route_of(scope: Scope, *, status: int) -> str | None:
    """Return the template, also of a request that was answered before it came to its route."""
    template = route_template(scope)
    if template or status in _UNROUTED or scope["type"] != "http" or "app" not in scope:
        return template
    return get_route_name(HTTPConnection(scope), should_include_root_path=False)
