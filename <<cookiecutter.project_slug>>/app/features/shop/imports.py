"""Catalogue files: CSV with the columns name, price and, optionally, in_stock."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import stamina
import structlog
from pydantic import ValidationError

from app.features.shop import queries
from app.features.shop.schemas import GameIn, ImportReport
from slipway_kit.db import Database, DatabaseUnavailable, StatementTimeout
from slipway_kit.errors import ServiceError

if TYPE_CHECKING:
    import _csv

COLUMNS = ("name", "price", "in_stock")
MAX_ROWS = 10_000
MAX_ERRORS = 100
ROWS_PER_TRANSACTION = 500
# Longer than a restart or failover of the database.
RETRY_SECONDS = 120.0
# Between attempts; short, because the queue may be full meanwhile.
LONGEST_PAUSE_SECONDS = 0.25
# Their own threads: parsing delays no plain `def` route.
THREADS = "imports"

log = structlog.get_logger()


class NothingToImport(ServiceError):
    """A file without a valid game."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY

    def __init__(self, report: ImportReport) -> None:
        first = report.errors[0] if report.errors else "it has no rows"
        super().__init__(f"The file holds no game: {first}.")


@dataclass(frozen=True, slots=True)
class BadRow:
    """An invalid line, and why."""

    line: int
    reason: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}"


class Catalogue(NamedTuple):
    """A parsed file: the valid games, and the report."""

    games: list[GameIn]
    report: ImportReport


def read(content: bytes) -> Catalogue:
    """Parse a whole file; this takes up to 0.25 s, so call it from a thread."""
    games, errors = list[GameIn](), list[str]()
    for row in parse(content):
        if isinstance(row, GameIn):
            games.append(row)
        elif len(errors) < MAX_ERRORS:
            errors.append(str(row))
    return Catalogue(games, ImportReport(valid=len(games), errors=errors))


def read_some(content: bytes) -> Catalogue:
    """Parse a file, or raise `NothingToImport` when it has no valid game."""
    catalogue = read(content)
    if not catalogue.games:
        raise NothingToImport(catalogue.report)
    return catalogue


async def store(database: Database, games: Sequence[GameIn]) -> None:
    """Upsert games by name in short transactions, which hold row locks only briefly.

    Each transaction is idempotent, so it is retried for `RETRY_SECONDS` while the database is
    unavailable, locked or too slow.
    """
    rest = iter(games)
    while chunk := list(islice(rest, ROWS_PER_TRANSACTION)):
        async for attempt in stamina.retry_context(
            on=(DatabaseUnavailable, StatementTimeout),
            attempts=None,
            timeout=RETRY_SECONDS,
            wait_max=LONGEST_PAUSE_SECONDS,
            wait_jitter=LONGEST_PAUSE_SECONDS,
        ):
            with attempt:
                async with database.transaction() as session:
                    await queries.store(session, chunk)
    log.info("games imported", games=len(games))


def parse(content: bytes) -> Iterator[GameIn | BadRow]:
    """Parse each row; a malformed file ends with a `BadRow`."""
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
    # An empty field counts as missing.
    given = {column: field for column, field in zip(header, row, strict=False) if field}
    try:
        return GameIn.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        return BadRow(line, f"{first['loc'][0]}: {first['msg']}")
