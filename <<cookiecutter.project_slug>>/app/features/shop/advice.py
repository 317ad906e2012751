"""Advice on a game, streamed word by word from an assistant."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Protocol

import httpx

from app.features.shop.schemas import BrokenOff, Complete, GameOut, Words
from slipway_kit.client import HttpClient
from slipway_kit.errors import ServiceError, Unavailable
from slipway_kit.http import KEEP_ALIVE, KEEP_ALIVE_SECONDS, event, with_keep_alives

MAX_SECONDS = 60.0
# An assistant may take longer than other upstreams.
ASSISTANT_TIMEOUT = httpx.Timeout(5, read=30)


class AssistantUnavailable(Unavailable):
    """The assistant does not answer, or failed midway."""

    detail = "The assistant is not available; try again soon."


class Assistant(Protocol):
    """Gives advice on a game; it never blocks the event loop."""

    def advise(self, game: GameOut) -> AsyncGenerator[str, None]:
        """Yield the advice piece by piece; a `ServiceError` ends it early."""


class HouseAssistant:
    """Gives fixed advice without another service; also used by tests."""

    async def advise(self, game: GameOut) -> AsyncGenerator[str, None]:
        """Yield one sentence, word by word."""
        stock = "it is in stock" if game.in_stock else "ask us when it is back"
        for word in f"{game.name} is a good choice for {game.price}; {stock}.".split():
            yield f"{word} "
            await asyncio.sleep(0)


class RemoteAssistant:
    """Relays the text that another service sends for a game posted as JSON."""

    def __init__(self, http: HttpClient, url: str) -> None:
        self._http, self._url = http, url

    async def advise(self, game: GameOut) -> AsyncGenerator[str, None]:
        """Yield the text as it arrives; closing this generator ends the call."""
        question = game.model_dump(mode="json")
        async with self._http.stream(
            "POST", self._url, json=question, timeout=ASSISTANT_TIMEOUT
        ) as reply:
            if not reply.is_success:
                raise AssistantUnavailable
            async for text in reply.aiter_text():
                yield text


async def events(
    assistant: Assistant,
    game: GameOut,
    *,
    keep_alive_seconds: float = KEEP_ALIVE_SECONDS,
    max_seconds: float = MAX_SECONDS,
) -> AsyncGenerator[str, None]:
    """Yield server-sent events: a message for each piece of advice, then `done`.

    When the assistant fails midway or takes too long, the last event is `error` with a sentence. An
    error before the first event is raised here. Comments keep the connection alive during silences.
    """
    said, sent = 0, False
    advice = assistant.advise(game)
    async with aclosing(
        with_keep_alives(advice, seconds=keep_alive_seconds, max_seconds=max_seconds)
    ) as pieces:
        try:
            async for piece in pieces:
                said += piece is not None
                yield KEEP_ALIVE if piece is None else event(Words(text=piece))
                sent = True
        except ServiceError as error:
            if not sent:
                raise
            yield event(BrokenOff(detail=str(error)), name="error")
        except TimeoutError:
            yield event(BrokenOff(detail="The assistant took too long."), name="error")
        else:
            yield event(Complete(pieces=said), name="done")
