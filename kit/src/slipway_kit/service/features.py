"""What the library reads from the package `app`: the constants of `app.about`, and the features.

A feature is a folder of `app/features`. Its module `routes` has a `router`, and may have a
`lifespan(app)` and `TAGS` for the OpenAPI document. Its optional module `settings` has a group
`Settings`, its optional module `models` the tables.
"""

from collections.abc import Iterable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Protocol

from slipway_kit.config.group import Group


class About(Protocol):
    """The module `app.about`."""

    NAME: str
    # For machines: folders, traces.
    SLUG: str
    # The owning team.
    OWNER: str
    DESCRIPTION: str
    VERSION: str
    # The folder with `app`, `migrations` and `gunicorn.conf.py`.
    ROOT: Path


def import_routes(features: Iterable[str]) -> dict[str, ModuleType]:
    """Return the module `routes` of each feature by the feature's name."""
    return {feature: import_module(f"app.features.{feature}.routes") for feature in features}


def import_models(features: Iterable[str]) -> list[ModuleType]:
    """Import the modules with tables, so that `Model.metadata` knows them."""
    return _optional(features, "models")


def setting_groups(features: Iterable[str]) -> list[type[Group]]:
    """Return the class `Settings` of each feature that has a module `settings`."""
    return [module.Settings for module in _optional(features, "settings")]


def _optional(features: Iterable[str], name: str) -> list[ModuleType]:
    paths = [f"app.features.{feature}.{name}" for feature in features]
    return [import_module(path) for path in paths if find_spec(path)]
