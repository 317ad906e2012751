"""What alembic runs for each of its commands: our settings, our tables, our lock."""

from importlib import import_module
from importlib.util import find_spec

from alembic import context

from app.enabled import FEATURES
from slipway_kit.config.group import read
from slipway_kit.db.migrations import run_environment
from slipway_kit.db.model import Model
from slipway_kit.db.settings import DatabaseSettings

for feature in FEATURES:
    models = f"app.features.{feature}.models"
    if find_spec(models):
        import_module(models)

run_environment(context.config.attributes.get("settings") or read(DatabaseSettings), Model.metadata)
