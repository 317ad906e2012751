"""What alembic runs for each of its commands: the service's tables, under the kit's lock."""

from app.enabled import FEATURES
from slipway_kit.db import Model, run_environment
from slipway_kit.service import import_models

import_models(FEATURES)
run_environment(Model.metadata)
