"""The check that a service's own tests start it with."""

from kit.tests.support.paths import SERVICE
from slipway_kit.testing import checks


def test_a_service_that_answers_and_leaves_in_order_passes(migrated_url: str) -> None:
    assert checks.start(SERVICE, migrated_url) == []


def test_a_service_that_does_not_start_is_found_with_its_log(migrated_url: str) -> None:
    faults = checks.start(SERVICE, migrated_url, settings={"DATABASE_POOL_SIZE": "many"})
    assert faults[0] == "GET /readyz was not answered with 200: no answer"
    assert faults[1].startswith("it left with status ")
    assert "DATABASE_POOL_SIZE" in faults[-1]
