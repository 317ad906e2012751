import subprocess
import sys
from decimal import Decimal
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.features.shop.bundle import Offer, cents, choose

PRICES = st.lists(st.integers(1, 60), max_size=9)


def quality(prices: list[int]) -> tuple[int, int]:
    """What is to be greatest: the money spent, then the number of games."""
    return sum(prices), len(prices)


def best_of_all(prices: list[int], budget: int) -> tuple[int, int]:
    """Try every choice there is."""
    choices = (
        list(choice) for size in range(len(prices) + 1) for choice in combinations(prices, size)
    )
    return max(quality(choice) for choice in choices if sum(choice) <= budget)


@given(PRICES, st.integers(0, 200))
def test_no_other_choice_is_better(prices: list[int], budget: int) -> None:
    chosen = choose([Offer(number, price) for number, price in enumerate(prices)], budget)
    assert len(set(chosen)) == len(chosen)
    assert quality([prices[number] for number in chosen]) == best_of_all(prices, budget)


@pytest.mark.parametrize(
    ("prices", "budget", "chosen"),
    [
        ([], 100, []),
        ([101], 100, []),
        ([100], 100, [0]),
        ([60, 50, 50], 100, [1, 2]),
        ([100, 50, 50], 100, [1, 2]),
        ([50, 50, 50], 100, [0, 1]),
    ],
)
def test_a_bundle_spends_most_then_holds_most(
    prices: list[int], budget: int, chosen: list[int]
) -> None:
    offers = [Offer(number, price) for number, price in enumerate(prices)]
    assert choose(offers, budget) == chosen


@pytest.mark.parametrize(("amount", "expected"), [("0.01", 1), ("500", 50_000), ("19.90", 1990)])
def test_cents_are_exact(amount: str, expected: int) -> None:
    assert cents(Decimal(amount)) == expected


def test_a_process_of_the_pool_loads_no_library_for_it() -> None:
    program = "import sys, app.features.shop.bundle; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", program], text=True).split()
    assert not {"pydantic", "fastapi", "sqlalchemy"} & set(loaded)
