"""Requests for what is known to be full are refused as they arrive, before they cost anything.

Whether a request needs a connection, a thread or a call to others is known when it asks for it,
after a good part of its work. So while a queue limit refuses, its route is learned: when several
requests in a row for the same method and path came to that limit, the next ones are refused as they
arrive, for as long as one more would wait too long. Numbers in a path are one number: ids differ.
"""

import re

from starlette.types import Scope

from slipway_kit.request_context import Limit

# So many in a row are no accident, as a look into a cache may be.
SURE = 3
_MOST_KEYS = 1024
# Digits, and what looks like an id with some.
_IDS = re.compile(r"[0-9a-fA-F-]*\d[0-9a-fA-F-]*")
_Key = tuple[str, str]


class RouteShedding:
    """What requests of late came to; empty while every queue limit lets everybody in."""

    def __init__(self) -> None:
        self._seen: dict[_Key, tuple[Limit, int]] = {}

    def limit_that_refuses(self, scope: Scope) -> Limit | None:
        """Return the queue limit that is sure to refuse a request, if there is one."""
        if not self._seen:
            return None
        limit, count = self._seen.get(_key(scope)) or (None, 0)
        refuses = limit is not None and count >= SURE and limit.would_wait_too_long()
        return limit if refuses else None

    def note(self, scope: Scope, queue_limit: Limit | None) -> None:
        """Learn from a request that is over which queue limit it came to, if any."""
        if queue_limit is not None and queue_limit.pressed:
            key = _key(scope)
            before, count = self._seen.get(key) or (queue_limit, 0)
            if len(self._seen) >= _MOST_KEYS:
                self._seen.clear()
            self._seen[key] = (queue_limit, count + 1 if before is queue_limit else 1)
        elif self._seen:
            self._seen.pop(_key(scope), None)

    def sample(self) -> None:
        """Forget what is no longer so; to be called now and then."""
        self._seen = {key: seen for key, seen in self._seen.items() if seen[0].pressed}


def _key(scope: Scope) -> _Key:
    return scope["method"], _IDS.sub("0", scope["path"])
