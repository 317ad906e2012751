from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from app.features.shop.schemas import GameIn, Scan


def test_a_game_is_in_stock_unless_told_otherwise() -> None:
    assert GameIn.model_validate({"name": "Catan", "price": 10}).in_stock is True


@pytest.mark.parametrize("price", ["10", 10, "10.0", "1e1", 10.0])
def test_a_price_has_two_decimals_however_it_is_written(price: Any) -> None:
    assert str(GameIn.model_validate({"name": "Catan", "price": price}).price) == "10.00"


def test_spaces_around_a_name_are_dropped() -> None:
    assert GameIn.model_validate({"name": "  Catan ", "price": 1}).name == "Catan"


@pytest.mark.parametrize("name", ["", "   ", "x" * 101, "a\0b", "a\nb", "\x7f", "\ud800", 7, None])
def test_a_name_that_cannot_be_stored_or_read_is_refused(name: Any) -> None:
    with pytest.raises(ValidationError):
        GameIn.model_validate({"name": name, "price": 1})


@pytest.mark.parametrize("name", ["Ĉatan", "麻雀", "👨‍👩‍👧 family", "O'Hare & Söhne"])
def test_a_name_may_be_in_any_script(name: str) -> None:
    assert GameIn.model_validate({"name": name, "price": 1}).name == name


@pytest.mark.parametrize("price", [0, -1, "0.001", 10**8, "NaN", "Infinity", 1e400, "ten", None])
def test_a_price_that_is_none_is_refused(price: Any) -> None:
    with pytest.raises(ValidationError):
        GameIn.model_validate({"name": "Catan", "price": price})


def test_unknown_fields_are_refused() -> None:
    with pytest.raises(ValidationError, match="colour"):
        GameIn.model_validate({"name": "Catan", "price": 1, "colour": "red"})


@given(st.decimals(min_value="0.01", max_value="99999999.99", places=2))
def test_every_price_in_cents_is_kept(price: Decimal) -> None:
    assert GameIn.model_validate({"name": "Catan", "price": str(price)}).price == price


@pytest.mark.parametrize("game_id", [0, -1, 2**63, "1" * 5000, "x", 1.5])
def test_an_id_that_no_game_can_have_is_refused(game_id: Any) -> None:
    with pytest.raises(ValidationError):
        Scan.model_validate({"id": game_id})
