"""Which games to buy with a voucher: CPU work without I/O, for the process pool.

The pool's processes import this module, so it uses the standard library only.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

# Together they limit one computation to five million steps, about half a second.
MAX_OFFERS = 100
MAX_BUDGET = 500


class Offer(NamedTuple):
    """A game reduced to what the choice depends on."""

    id: int
    cents: int


def cents(amount: Decimal) -> int:
    """Return an amount of money as whole cents."""
    return int(amount * 100)


def choose(offers: Sequence[Offer], budget_cents: int) -> list[int]:
    """Return the ids whose prices have the largest sum within the budget.

    Of equal sums, the one with the most games wins. This is 0/1 knapsack by dynamic programming:
    `len(offers) * budget_cents` steps, and as many bytes.
    """
    # For each sum: the most games that cost exactly that; -1 when there are none.
    most = [0] + [-1] * budget_cents
    taken = [_take(offer, most) for offer in offers]
    total = max(cents for cents, games in enumerate(most) if games >= 0)
    chosen: list[int] = []
    for offer, takes in zip(reversed(offers), reversed(taken), strict=True):
        if takes[total]:
            chosen.append(offer.id)
            total -= offer.cents
    return chosen[::-1]


def _take(offer: Offer, most: list[int]) -> bytearray:
    """Improve `most` with one more offer; the answer says at which sums it was taken."""
    takes = bytearray(len(most))
    # Downwards, so that no sum contains this offer twice.
    for total in range(len(most) - 1, offer.cents - 1, -1):
        before = most[total - offer.cents]
        if 0 <= before >= most[total]:
            most[total] = before + 1
            takes[total] = True
    return takes
