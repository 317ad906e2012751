"""An assistant for tests."""

import asyncio
from collections.abc import AsyncGenerator

from app.features.shop.schemas import GameOut


class Said:
    """An assistant that says what it is told to, and fails where it is told to."""

    def __init__(self, *pieces: str | Exception | asyncio.Event) -> None:
        self._pieces = pieces
        self.closed = False

    async def advise(self, game: GameOut) -> AsyncGenerator[str, None]:
        try:
            for piece in self._pieces:
                if isinstance(piece, Exception):
                    raise piece
                if isinstance(piece, asyncio.Event):
                    await piece.wait()
                else:
                    yield f"{game.name} {piece}"
        finally:
            self.closed = True
