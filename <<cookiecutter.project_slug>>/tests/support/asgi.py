"""Requests without a server, for what a client cannot do through one."""

from typing import Any


def scope(path: str, *, spec_version: str = "2.3") -> dict[str, Any]:
    """Return the scope of a GET; servers before ASGI 2.4 tell of a disconnect by `receive` only."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": spec_version},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [],
        "server": ("service", 80),
    }


def websocket_scope(path: str) -> dict[str, Any]:
    """Return the scope of a WebSocket."""
    return {**scope(path), "type": "websocket", "scheme": "ws", "subprotocols": []}
