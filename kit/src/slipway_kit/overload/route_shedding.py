"""Sheds requests on arrival when the resource that their route needs is full.

Whether a request needs a connection, a thread or an outbound call shows only after much of its
work. So routes are learned: when several requests in a row for the same method and path needed a
queue limit that sheds load, the next ones are refused on arrival while one more would wait too
long. Ids and numbers in a path are treated as equal.
"""

import re

from starlette.types import Scope

from slipway_kit.request_context import Limit

# Requests in a row until a route is shed; fewer may be an accident, like a cache miss.
MIN_IN_A_ROW = 3
_MAX_ROUTES = 1024
# Digits, and hexadecimal ids with a digit in them.
_IDS = re.compile(r"[0-9a-fA-F-]*\d[0-9a-fA-F-]*")
_Route = tuple[str, str]


class RouteShedding:
    """The queue limits that recent requests needed, by route; empty while no limit sheds load."""

    def __init__(self) -> None:
        self._seen: dict[_Route, tuple[Limit, int]] = {}

    def refusing_limit(self, scope: Scope) -> Limit | None:
        """Return the queue limit that would refuse this request, or `None`."""
        if not self._seen:
            return None
        limit, count = self._seen.get(_route(scope)) or (None, 0)
        refuses = limit is not None and count >= MIN_IN_A_ROW and limit.would_wait_too_long()
        return limit if refuses else None

    def record(self, scope: Scope, queue_limit: Limit | None) -> None:
        """Record the last queue limit that a finished request needed, if any."""
        if queue_limit is not None and queue_limit.shedding:
            route = _route(scope)
            before, count = self._seen.get(route) or (queue_limit, 0)
            if len(self._seen) >= _MAX_ROUTES:
                self._seen.clear()
            self._seen[route] = (queue_limit, count + 1 if before is queue_limit else 1)
        elif self._seen:
            self._seen.pop(_route(scope), None)

    def sample(self) -> None:
        """Forget the routes whose limit no longer sheds load; called periodically."""
        self._seen = {route: seen for route, seen in self._seen.items() if seen[0].shedding}


def _route(scope: Scope) -> _Route:
    return scope["method"], _IDS.sub("0", scope["path"])
