"""Requests for what is known to be full are refused at the door, before anything is done for them.

Whether a request needs a connection, a thread or a call to others is known when it asks for it,
after a good part of its work. So while a gate refuses, requests teach the door: when several in a
row for the same method and path came to that gate, the next ones are refused as they arrive, for as
long as the gate is shut. Numbers in a path are one number: ids differ.
"""

import re

from starlette.types import Scope

from slipway_kit.overload.queue_limit import Gate

# So many in a row are no accident, as a look into a cache may be.
SURE = 3
_MOST_KEYS = 1024
# Digits, and what looks like an id with some.
_IDS = re.compile(r"[0-9a-fA-F-]*\d[0-9a-fA-F-]*")
_Key = tuple[str, str]


class Doors:
    """What requests of late came to; empty while every gate lets everybody in."""

    def __init__(self) -> None:
        self._seen: dict[_Key, tuple[Gate, int]] = {}

    def shut_for(self, scope: Scope) -> Gate | None:
        """Return the gate that is sure to refuse a request, if there is one."""
        if not self._seen:
            return None
        gate, count = self._seen.get(_key(scope)) or (None, 0)
        return gate if gate is not None and count >= SURE and gate.shut() else None

    def note(self, scope: Scope, gate: Gate | None) -> None:
        """Learn from a request that is over which gate it came to, if any."""
        if gate is not None and gate.pressed:
            key = _key(scope)
            before, count = self._seen.get(key) or (gate, 0)
            if len(self._seen) >= _MOST_KEYS:
                self._seen.clear()
            self._seen[key] = (gate, count + 1 if before is gate else 1)
        elif self._seen:
            self._seen.pop(_key(scope), None)

    def sample(self) -> None:
        """Forget what is no longer so; to be called now and then."""
        self._seen = {key: seen for key, seen in self._seen.items() if seen[0].pressed}


def _key(scope: Scope) -> _Key:
    return scope["method"], _IDS.sub("0", scope["path"])
