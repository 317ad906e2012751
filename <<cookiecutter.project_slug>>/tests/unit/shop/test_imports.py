import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.features.shop import imports
from app.features.shop.schemas import GameIn

HEADER = b"name,price,in_stock\n"


def test_good_rows_are_counted() -> None:
    games, report = imports.read(HEADER + b"Catan,49.90,true\nChess,10,\n\n")
    assert [game.name for game in games] == ["Catan", "Chess"]
    assert (report.valid, report.errors) == (2, [])


def test_columns_may_come_in_any_order_and_in_stock_may_be_missing() -> None:
    [game] = imports.parse(b"\xef\xbb\xbfprice, name\r\n9.5,Go\r\n")
    assert game == GameIn.model_validate({"name": "Go", "price": "9.50", "in_stock": True})


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", "line 1: the first line must be name,price or name,price,in_stock"),
        (b"Catan,49.90\n", "line 1: the first line must be name,price or name,price,in_stock"),
        (b"name,price,name\n", "line 1: the first line must be name,price or name,price,in_stock"),
        (
            b"name,price,colour\n",
            "line 1: the first line must be name,price or name,price,in_stock",
        ),
        (HEADER + b"Catan,-1\n", "line 2: price: Input should be greater than 0"),
        (HEADER + b"Catan\n", "line 2: price: Field required"),
        (HEADER + b",1\n", "line 2: name: Field required"),
        (HEADER + b"Catan,1,true,x\n", "line 2: there are 4 fields for 3 columns"),
        (HEADER + b"a\0b,1\n", "line 2: name: Value error, control characters are not allowed"),
        (HEADER + b"Chess,1\nK\xf6nig,1\n", "line 3: this is not UTF-8"),
        (HEADER + b"\xff\xfeC\0", "line 2: this is not UTF-8"),
        (HEADER + b'"Catan,1\n', "line 2: unexpected end of data"),
        (HEADER + b"x" * 200_000 + b",1\n", "line 2: field larger than field limit (131072)"),
        (HEADER + b"x" * 101 + b",1\n", "line 2: name: String should have at most 100 characters"),
        (HEADER + b"Catan,1e999999\n", "line 2: price: "),
        (HEADER + b"Catan,NaN\n", "line 2: price: Input should be a finite number"),
    ],
)
def test_a_bad_file_is_reported_by_line(content: bytes, error: str) -> None:
    assert imports.read(content).report.errors[0].startswith(error)


def test_rows_beyond_the_limit_are_left_unread() -> None:
    report = imports.read(HEADER + b"Catan,1\n" * (imports.MAX_ROWS + 5)).report
    assert report.valid == imports.MAX_ROWS
    assert report.errors == ["line 10002: a file may hold 10000 games; the rest is unread"]


def test_only_the_first_hundred_errors_are_told() -> None:
    report = imports.read(HEADER + b"Catan,0\n" * 500).report
    assert (report.valid, len(report.errors)) == (0, 100)


@given(st.binary())
def test_any_bytes_get_a_report(content: bytes) -> None:
    report = imports.read(HEADER + content).report
    assert report.valid >= 0


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (HEADER, "The file holds no game: it has no rows."),
        (HEADER + b"Catan,-1\n", "The file holds no game: line 2: price: Input should be greater"),
    ],
)
def test_a_file_without_a_game_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(imports.NothingToImport) as caught:
        imports.read_some(content)
    assert str(caught.value).startswith(reason)
    assert caught.value.status == 422
