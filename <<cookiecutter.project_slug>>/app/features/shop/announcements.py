"""Announces a new game after its transaction is committed and the response is sent."""

import structlog

from app.features.shop.schemas import GameOut
from slipway_kit.client import HttpClient
from slipway_kit.errors import ServiceError
from slipway_kit.service import Resources

log = structlog.get_logger()


async def start(resources: Resources, url: str | None, game: GameOut) -> None:
    """Announce `game` in a background task, which is drained at shutdown."""
    resources.tasks.spawn(announce, resources.http, url, game)


async def announce(http: HttpClient, url: str | None, game: GameOut) -> None:
    """Announce one game, once: in the log, and to the listener at `url` if set.

    A slow or failing listener misses it; the log records that.
    """
    log.info("game announced", game_id=game.id, name=game.name)
    if url is None:
        return
    try:
        answer = await http.post(url, json=game.model_dump(mode="json"))
    except ServiceError as error:
        log.warning("announcement lost", game_id=game.id, reason=str(error))
        return
    if not answer.is_success:
        log.warning("announcement lost", game_id=game.id, reason=f"status {answer.status_code}")
