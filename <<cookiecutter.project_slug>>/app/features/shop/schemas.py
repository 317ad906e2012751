"""Request and response bodies."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from pydantic.config import JsonDict

from slipway_kit.fields import Id, Line


def _in_cents(price: Decimal) -> Decimal:
    return price.quantize(Decimal("0.01"))


GameId = Annotated[Id, Field(examples=[1])]
Name = Annotated[
    Line,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=100),
    Field(examples=["Catan"]),
]
# The JSON schema of a price: a string, which keeps its cents, or a number.
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
    """A game to add, or to replace another."""

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
    """A page of games in the order of their ids."""

    games: list[GameOut]
    next: int | None = Field(description="`after` of the next page; null on the last")

    @classmethod
    def of(cls, found: Sequence[Mapping[str, Any]], *, limit: int) -> Self:
        """Make a page of the first `limit` games; more games mean a next page."""
        games = found[:limit]
        following = games[-1]["id"] if len(found) > limit else None
        # Validated together, which is much faster than one by one.
        return cls.model_validate({"games": games, "next": following})


class Scan(BaseModel):
    """What a till sends: the id of a game."""

    id: GameId


class Stock(BaseModel):
    """Price and stock of a game."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    price: Decimal
    in_stock: bool


class ScanError(BaseModel):
    """Why a scan failed; the connection stays open."""

    error: str


class ImportReport(BaseModel):
    """The result of parsing a catalogue file."""

    valid: int = Field(description="valid rows", examples=[1])
    errors: list[str] = Field(
        description="errors by line; the first hundred",
        examples=[["line 3: price: Input should be greater than 0"]],
    )


class Summary(BaseModel):
    """The summary of the catalogue."""

    games: int
    in_stock: int
    value: Cents = Field(description="total price of all games in stock", examples=["61.90"])
    as_of: datetime = Field(description="time of the computation")


class Bundle(BaseModel):
    """The games that use a budget best."""

    games: list[GameOut]
    total: Cents = Field(description="total price, at most the budget", examples=["61.90"])

    @classmethod
    def of(cls, games: Iterable[object]) -> Self:
        """Make a bundle of objects with the fields of a game."""
        found = [GameOut.model_validate(game) for game in games]
        return cls(games=found, total=sum((game.price for game in found), Decimal(0)))


class Words(BaseModel):
    """The next words of the advice."""

    text: str


class Complete(BaseModel):
    """The advice is complete."""

    pieces: int


class BrokenOff(BaseModel):
    """Why the advice ended early."""

    detail: str
