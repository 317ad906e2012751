"""The tests of the library run a service of the template; see support/paths.py."""

import os
import sys

import pytest

from kit.tests.support.paths import MIGRATIONS, SERVICE

sys.path.insert(0, str(SERVICE))
# The commands of slipway_kit.dev work in the folder where they are started.
os.chdir(SERVICE)

from app.main import create_app
from app.settings import Settings
from slipway_kit.config.server import ServerSettings
from slipway_kit.db.settings import DatabaseSettings
from slipway_kit.testing.parts import ServiceParts

pytest_plugins = ["slipway_kit.testing.plugin"]


def service_settings(database: DatabaseSettings) -> Settings:
    """Settings of a service that serves no metrics port: several run at once."""
    return Settings(server=ServerSettings(metrics_port=0), database=database)


@pytest.fixture(scope="session")
def service_parts() -> ServiceParts:
    return ServiceParts(create_app, service_settings, Settings.groups, MIGRATIONS)
