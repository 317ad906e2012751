"""The fixtures of `slipway_kit.testing`, for this service."""

import pytest

from app import about
from app.main import create_app
from app.settings import Settings
from slipway_kit.config import ServerSettings
from slipway_kit.db import DatabaseSettings
from slipway_kit.testing.parts import ServiceParts

pytest_plugins = ["slipway_kit.testing.plugin"]


def service_settings(database: DatabaseSettings) -> Settings:
    """Settings of a service that serves no metrics port: several run at once."""
    return Settings(server=ServerSettings(metrics_port=0), database=database)


@pytest.fixture(scope="session")
def service_parts() -> ServiceParts:
    return ServiceParts(create_app, service_settings, Settings.groups, about.ROOT / "migrations")
