"""What crosses the wire."""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from pydantic.config import JsonDict


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
    Field(examples=["Catan"], json_schema_extra={"pattern": r"^[^\x00-\x1f\x7f-\x9f]+$"}),
]
# What the document tells of a price: clients may send a string, which keeps its cents, or a number.
PRICE: JsonDict = {
    "anyOf": [
        {"type": "string", "pattern": r"^\d{1,8}(\.\d{1,2})?$"},
        {"type": "number", "exclusiveMinimum": 0, "maximum": 99999999.99, "multipleOf": 0.01},
    ]
}
Price = Annotated[
    Decimal,
    Field(gt=0, max_digits=10, decimal_places=2, examples=["49.90"], json_schema_extra=PRICE),
    AfterValidator(_in_cents),
]
Cents = Annotated[Decimal, AfterValidator(_in_cents)]


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

    @classmethod
    def of(cls, found: Sequence[Mapping[str, Any]], *, limit: int) -> Self:
        """Put the first `limit` games on a page; there is a next one if more were found."""
        games = found[:limit]
        following = games[-1]["id"] if len(found) > limit else None
        # All at once, which takes a fraction of the time of one after another.
        return cls.model_validate({"games": games, "next": following})


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

    valid: int = Field(description="rows that could be stored", examples=[1])
    errors: list[str] = Field(
        description="what is wrong, by line; the first hundred",
        examples=[["line 3: price: Input should be greater than 0"]],
    )


class Summary(BaseModel):
    """The catalogue at a glance."""

    games: int
    in_stock: int
    value: Cents = Field(description="the price of all games in stock", examples=["61.90"])
    as_of: datetime = Field(description="when it was counted")


class Bundle(BaseModel):
    """The games that use a budget best."""

    games: list[GameOut]
    total: Cents = Field(description="what they cost; at most the budget", examples=["61.90"])

    @classmethod
    def of(cls, games: Iterable[object]) -> Self:
        """Put games together, with anything that has their fields."""
        found = [GameOut.model_validate(game) for game in games]
        return cls(games=found, total=sum((game.price for game in found), Decimal(0)))


class Words(BaseModel):
    """A piece of advice, in the order of the words."""

    text: str


class Complete(BaseModel):
    """Nothing of the advice is missing."""

    pieces: int


class BrokenOff(BaseModel):
    """Why advice ends before it is complete."""

    detail: str
