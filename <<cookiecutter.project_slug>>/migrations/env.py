"""What alembic runs for each of its commands: our settings, our tables, our lock."""

from importlib import import_module
from importlib.util import find_spec

from alembic import context

from app.enabled import FEATURES
from app.kit.database import DatabaseSettings, Model
from app.kit.environment import read
from app.kit.migrations import run_environment

for feature in FEATURES:
    models = f"app.features.{feature}.models"
    if find_spec(models):
        import_module(models)

run_environment(context.config.attributes.get("settings") or read(DatabaseSettings), Model.metadata)
