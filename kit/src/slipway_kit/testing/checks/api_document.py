"""The OpenAPI document that clients rely on."""

import json
from pathlib import Path
from typing import Any

from fastapi import FastAPI

HINT = "; if you meant it: make openapi"


def document(app: FastAPI, agreed: Path) -> list[str]:
    """Return the places where the API's document differs from the one in the file `agreed`.

    Title, version and owner may change. A service without routes needs no file.
    """
    now = app.openapi()
    if not agreed.exists():
        return [f"{agreed.name} is missing{HINT}"] if now["paths"] else []
    then = json.loads(agreed.read_text(encoding="utf-8"))
    places = _differences(then | {"info": now["info"]}, now)
    return [f"{place} differs from {agreed.name}{HINT}" for place in places]


def _differences(then: Any, now: Any, place: str = "") -> list[str]:
    """Return the path of each value that is not the same in both."""
    if not (isinstance(then, dict) and isinstance(now, dict)):
        return [place] if then != now else []
    return [
        found
        for key in sorted(then.keys() | now.keys())
        for found in _differences(then.get(key), now.get(key), f"{place} {key}".strip())
    ]
