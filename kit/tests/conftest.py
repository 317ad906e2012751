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
from slipway_kit.testing import ServiceParts

pytest_plugins = ["slipway_kit.testing.plugin"]


@pytest.fixture(scope="session")
def service_parts() -> ServiceParts:
    return ServiceParts(create_app, Settings, MIGRATIONS)
