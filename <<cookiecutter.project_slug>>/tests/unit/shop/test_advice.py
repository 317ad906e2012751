import asyncio
from decimal import Decimal

import pytest

from app.features.shop.advice import AssistantUnavailable, HouseAssistant, events
from app.features.shop.schemas import GameOut
from slipway_kit.http.streams import KEEP_ALIVE
from tests.unit.shop.assistants import Said

pytestmark = pytest.mark.anyio

GAME = GameOut(id=1, name="Catan", price=Decimal("49.90"), in_stock=True)
ERROR = 'event: error\ndata: {"detail":"The assistant is not available; try again soon."}\n\n'


async def test_each_piece_is_a_message_and_the_end_is_told() -> None:
    assert [event async for event in events(Said("is", "good\n\nevent: done"), GAME)] == [
        'data: {"text":"Catan is"}\n\n',
        'data: {"text":"Catan good\\n\\nevent: done"}\n\n',
        'event: done\ndata: {"pieces":2}\n\n',
    ]


async def test_an_assistant_that_says_nothing_is_complete() -> None:
    told = [event async for event in events(Said(), GAME)]
    assert told == ['event: done\ndata: {"pieces":0}\n\n']


async def test_an_assistant_that_breaks_off_ends_the_events_with_an_error() -> None:
    assistant = Said("is", AssistantUnavailable(), "good")
    told = [event async for event in events(assistant, GAME)]
    assert told == ['data: {"text":"Catan is"}\n\n', ERROR]
    assert assistant.closed


async def test_an_assistant_that_fails_before_its_first_word_is_a_problem_of_the_request() -> None:
    with pytest.raises(AssistantUnavailable):
        await anext(events(Said(AssistantUnavailable()), GAME))


async def test_a_long_thought_is_bridged_by_comments() -> None:
    thought = asyncio.Event()
    told = events(Said(thought, "is", AssistantUnavailable()), GAME, keep_alive_seconds=0.001)
    assert await anext(told) == KEEP_ALIVE
    thought.set()
    rest = [event async for event in told if event != KEEP_ALIVE]
    # The comment was an answer already: what comes after it is told by an event.
    assert rest == ['data: {"text":"Catan is"}\n\n', ERROR]


async def test_who_leaves_ends_the_assistant() -> None:
    assistant = Said("is", asyncio.Event())
    told = events(assistant, GAME)
    await anext(told)
    await told.aclose()
    assert assistant.closed


@pytest.mark.parametrize(
    ("in_stock", "ending"), [(True, "it is in stock."), (False, "ask us when it is back.")]
)
async def test_the_house_says_what_it_knows(in_stock: bool, ending: str) -> None:
    game = GAME.model_copy(update={"in_stock": in_stock})
    words = [word async for word in HouseAssistant().advise(game)]
    assert len(words) > 5
    assert "".join(words).strip() == f"Catan is a good choice for 49.90; {ending}"
