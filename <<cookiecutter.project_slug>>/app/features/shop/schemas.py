"""What crosses the wire."""

import unicodedata
from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints


def _printable(text: str) -> str:
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in text):
        raise ValueError("control characters are not allowed")
    return text


def _in_cents(price: Decimal) -> Decimal:
    return price.quantize(Decimal("0.01"))


# The bounds of PostgreSQL's bigint: a larger id cannot exist.
GameId = Annotated[int, Field(ge=1, le=2**63 - 1, examples=[1])]
Name = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=100),
    AfterValidator(_printable),
    Field(examples=["Catan"]),
]
Price = Annotated[
    Decimal,
    Field(gt=0, max_digits=10, decimal_places=2, examples=["49.90"]),
    AfterValidator(_in_cents),
]


class GameIn(BaseModel):
    """A game to add, or to put in the place of another."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    price: Price
    in_stock: bool = True


class GameOut(BaseModel):
    """A game of the catalogue."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    name: str
    price: Decimal
    in_stock: bool


class GamePage(BaseModel):
    """Some games in the order of their ids, and where to go on."""

    games: list[GameOut]
    next: int | None = Field(description="`after` of the next page; null on the last")


class Scan(BaseModel):
    """What a till sends: the id of a game."""

    id: GameId


class Stock(BaseModel):
    """What a till needs to know of a game."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    price: Decimal
    in_stock: bool


class ScanError(BaseModel):
    """Why a scan has no answer; the till may go on."""

    error: str


class ImportReport(BaseModel):
    """What a catalogue file holds."""

    valid: int = Field(description="rows that could be stored")
    errors: list[str] = Field(description="what is wrong, by line; the first hundred")
