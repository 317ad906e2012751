"""Telling the world of a new game, once its transaction is over and the answer is out."""

import structlog

from app.features.shop.schemas import GameOut
from app.kit.tasks import Tasks

log = structlog.get_logger()


async def start(tasks: Tasks, game: GameOut) -> None:
    """Announce `game` in a task of its own, which outlives the request and is drained at exit."""
    tasks.spawn(announce, game)


async def announce(game: GameOut) -> None:
    """Announce one game; here the log is the audience."""
    log.info("game announced", game_id=game.id, name=game.name)
