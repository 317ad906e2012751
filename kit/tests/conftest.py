"""The tests of the library run a service of the template; see support/paths.py."""

import os
import sys

import pytest

from kit.tests.support.paths import MIGRATIONS, SERVICE

sys.path.insert(0, str(SERVICE))

from app.main import create_app
from app.settings import Settings
from slipway_kit.testing import ServiceParts

pytest_plugins = ["slipway_kit.testing.plugin"]


def pytest_sessionstart() -> None:
    """Go where the commands of slipway_kit.dev are started; pytest has found its paths by now."""
    os.chdir(SERVICE)


@pytest.fixture(scope="session")
def service_parts() -> ServiceParts:
    return ServiceParts(create_app, Settings, MIGRATIONS)
