"""The published document of the service; a change to it is a change for its clients."""

import json
from pathlib import Path

from fastapi import FastAPI

SNAPSHOT = Path(__file__).with_name("openapi.json")


def test_the_document_is_the_one_that_was_agreed_on(app: FastAPI) -> None:
    agreed = json.loads(SNAPSHOT.read_text(encoding="utf-8"))
    # Names and version are told by the service, not promised to its clients.
    now = app.openapi() | {"info": agreed["info"]}
    assert now == agreed, "meant? `python -m app openapi > tests/api/shop/openapi.json`"


def test_the_till_is_described_where_the_document_has_no_place_for_websockets(
    app: FastAPI,
) -> None:
    (games,) = [tag for tag in app.openapi()["tags"] if tag["name"] == "games"]
    assert "/api/v1/games/till" in games["description"]
