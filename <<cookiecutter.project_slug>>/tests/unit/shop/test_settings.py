import pytest
from pydantic import ValidationError

from app.features.shop.settings import Settings


def test_a_summary_is_stale_before_it_is_too_old() -> None:
    with pytest.raises(ValidationError, match="not below SHOP_SUMMARY_MAX_AGE_SECONDS"):
        Settings(summary_fresh_seconds=300)


@pytest.mark.parametrize("url", ["", "assistant", "ftp://assistant", "http://"])
def test_an_address_that_cannot_be_called_stops_the_start(url: str) -> None:
    with pytest.raises(ValidationError, match="assistant_url"):
        Settings.model_validate({"assistant_url": url})
