"""What the fixtures of `slipway_kit.testing` have to know of this service."""

import pytest

from app import about
from app.main import create_app
from app.settings import Settings
from slipway_kit.testing import ServiceParts

pytest_plugins = ["slipway_kit.testing.plugin"]


@pytest.fixture(scope="session")
def service_parts() -> ServiceParts:
    return ServiceParts(create_app, Settings, about.ROOT / "migrations")
