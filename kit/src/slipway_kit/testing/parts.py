"""What the fixtures need of a service."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from slipway_kit.service.settings import ServiceSettings


@dataclass(frozen=True)
class ServiceParts:
    """A service, as its tests make it; `migrations` is the folder with alembic's `env.py`."""

    create_app: Callable[[Any], FastAPI]
    settings: type[ServiceSettings]
    migrations: Path
