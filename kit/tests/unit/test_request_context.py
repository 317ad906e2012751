"""What is left of a request's time."""

import asyncio
from dataclasses import dataclass

import pytest

from slipway_kit import request_context
from slipway_kit.request_context import Limit

pytestmark = pytest.mark.anyio

NOW = 100.0


@dataclass
class Request:
    """A request that must be answered in time."""

    deadline: float | None
    queue_limit: Limit | None = None
    by_client = False


@pytest.fixture(autouse=True)
def _time_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_context, "now", lambda: NOW)


def left(seconds: float) -> float:
    return request_context.deadline_within(seconds) - NOW


async def test_what_it_waits_for_gets_what_is_left() -> None:
    assert left(5) == 5
    request_context.begin(Request(NOW + 2))
    assert left(5) == 2
    assert left(1) == 1


async def test_tasks_of_the_request_share_it_and_those_that_outlive_it_do_not() -> None:
    request_context.begin(Request(NOW + 2))

    async def ask() -> float:
        return left(9)

    own = await asyncio.create_task(ask())
    other = await asyncio.create_task(ask(), context=request_context.without_deadline())
    assert own == 2
    assert other == 9


async def test_it_ends_with_the_answer() -> None:
    request = Request(NOW + 2)
    request_context.begin(request)
    request.deadline = None
    assert left(9) == 9


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("2", 2),
        ("0.25", 0.25),
        ("1e9", 1e9),
        ("inf", float("inf")),
        *((text, None) for text in ("", "0", "-1", "nan", "2s", "1,5", "\xff")),
    ],
)
async def test_a_client_asks_in_seconds(header: str, seconds: float | None) -> None:
    assert request_context.parse_timeout(header) == seconds
