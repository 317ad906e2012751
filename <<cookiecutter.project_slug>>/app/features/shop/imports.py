"""Catalogue files: CSV with the columns name, price and, if wanted, in_stock."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ValidationError

from app.features.shop.schemas import GameIn, ImportReport

if TYPE_CHECKING:
    import _csv

COLUMNS = ("name", "price", "in_stock")
MAX_ROWS = 10_000
MAX_ERRORS = 100


@dataclass(frozen=True, slots=True)
class BadRow:
    """A line that holds no game, and why."""

    line: int
    reason: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}"


def check(content: bytes) -> ImportReport:
    """Report on a whole file; it parses for a while, so call it from a thread."""
    valid, errors = 0, list[str]()
    for row in parse(content):
        if isinstance(row, GameIn):
            valid += 1
        elif len(errors) < MAX_ERRORS:
            errors.append(str(row))
    return ImportReport(valid=valid, errors=errors)


def parse(content: bytes) -> Iterator[GameIn | BadRow]:
    """Read each row; a file that cannot be read on ends with a `BadRow`."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        yield BadRow(content.count(b"\n", 0, error.start) + 1, "this is not UTF-8")
        return
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        yield from _games(rows)
    except csv.Error as error:
        yield BadRow(rows.line_num, str(error))


def _games(rows: "_csv.Reader") -> Iterator[GameIn | BadRow]:
    header = [column.strip() for column in next(rows, [])]
    if not {"name", "price"} <= set(header) <= set(COLUMNS) or len(set(header)) < len(header):
        yield BadRow(1, "the first line must be name,price or name,price,in_stock")
        return
    for number, row in enumerate(filter(None, rows), start=1):
        if number > MAX_ROWS:
            yield BadRow(rows.line_num, f"a file may hold {MAX_ROWS} games; the rest is unread")
            return
        yield _game(header, row, rows.line_num)


def _game(header: list[str], row: list[str], line: int) -> GameIn | BadRow:
    if len(row) > len(header):
        return BadRow(line, f"there are {len(row)} fields for {len(header)} columns")
    # An empty field is one that was left out: it has its default or is missing.
    given = {column: field for column, field in zip(header, row, strict=False) if field}
    try:
        return GameIn.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        return BadRow(line, f"{first['loc'][0]}: {first['msg']}")
