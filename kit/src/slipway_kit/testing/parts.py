"""What the fixtures need of a service."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from slipway_kit.config.group import Group
from slipway_kit.db.settings import DatabaseSettings


@dataclass(frozen=True)
class ServiceParts:
    """What these fixtures need of a service."""

    create_app: Callable[[Any], FastAPI]
    # Makes settings that serve no metrics port, for several apps run at once.
    settings: Callable[[DatabaseSettings], Any]
    groups: Callable[[], Iterable[type[Group]]]
    # The folder with the revisions and alembic's `env.py`.
    migrations: Path
