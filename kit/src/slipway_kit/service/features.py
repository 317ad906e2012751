"""Finds the routers, lifespans, settings and models of the features.

A feature is a folder of `app/features`. Its module `routes` has a `router`, and may have a
`lifespan(app)` and `TAGS` for the OpenAPI document. Its optional module `settings` has a group
`Settings`, its optional module `models` the tables.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from fastapi import APIRouter, FastAPI

from slipway_kit.config.group import Group

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[Any]]


def routers(features: Iterable[str]) -> list[APIRouter]:
    """Return the router of each feature."""
    return [_routes(feature).router for feature in features]


def lifespans(features: Iterable[str]) -> dict[str, Lifespan]:
    """Return the lifespan of each feature that has one, by the feature's name."""
    found = {feature: getattr(_routes(feature), "lifespan", None) for feature in features}
    return {feature: lifespan for feature, lifespan in found.items() if lifespan is not None}


def tags(features: Iterable[str]) -> dict[str, str]:
    """Return the description of each tag of the features."""
    found: list[dict[str, str]] = [getattr(_routes(feature), "TAGS", {}) for feature in features]
    return {name: text for each in found for name, text in each.items()}


def setting_groups(features: Iterable[str]) -> list[type[Group]]:
    """Return the class `Settings` of each feature that has a module `settings`."""
    return [module.Settings for module in _modules(features, "settings")]


def import_models(features: Iterable[str]) -> Sequence[ModuleType]:
    """Import the modules with tables, so that `Model.metadata` knows them."""
    return _modules(features, "models")


def _routes(feature: str) -> ModuleType:
    return import_module(f"app.features.{feature}.routes")


def _modules(features: Iterable[str], name: str) -> list[ModuleType]:
    paths = [f"app.features.{feature}.{name}" for feature in features]
    return [import_module(path) for path in paths if find_spec(path)]
