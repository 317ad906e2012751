"""Assembles this service; gunicorn, tests and tools call `create_app`."""

from fastapi import FastAPI

from app import about
from app.enabled import FEATURES
from app.settings import Settings
from slipway_kit.service import assemble, resources


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the application; `settings` default to the environment.

    Raises `SettingsError` when the configuration is invalid.
    """
    return assemble(
        settings or Settings.load(),
        about=about,
        # Their routes are served under /api/v1.
        features=FEATURES,
        # Each worker opens these in order, before the lifespans of the features.
        resources={
            "database": resources.database,
            "offload": resources.offload,
            "http client": resources.http_client,
            "tasks": resources.tasks,
        },
        # Your own, such as Middleware(GZipMiddleware); the first one is outermost.
        middleware=[],
    )
