"""What this service is made of.

Nothing happens at import; gunicorn, the tests and the tools all call `create_app`.
"""

from fastapi import FastAPI

from app import about
from app.enabled import FEATURES
from app.settings import Settings
from slipway_kit.service import assemble, resources


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the application; `settings` default to the environment.

    Raises `SettingsError` when the configuration makes no sense.
    """
    return assemble(
        settings or Settings.load(),
        about=about,
        # The routes of each are served under /api/v1.
        features=FEATURES,
        # What each worker opens, in this order, before the features' own; it closes in reverse.
        resources={
            "database": resources.database,
            "offload": resources.offload,
            "http client": resources.http_client,
            "tasks": resources.tasks,
        },
        # Your own, such as Middleware(GZipMiddleware); the first is around the others.
        middleware=[],
    )
