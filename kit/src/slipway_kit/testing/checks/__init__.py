"""Checks for the tests of a service: each returns what is wrong, and nothing when all is well.

def test_every_route_keeps_the_rules(app: FastAPI) -> None:
    assert checks.routes(app) == []
"""

from slipway_kit.testing.checks.api_document import document
from slipway_kit.testing.checks.contract import promises
from slipway_kit.testing.checks.library import kit
from slipway_kit.testing.checks.real_start import start
from slipway_kit.testing.checks.releases import chart
from slipway_kit.testing.checks.route_rules import routes
from slipway_kit.testing.checks.schema import migrations

__all__ = ["chart", "document", "kit", "migrations", "promises", "routes", "start"]
