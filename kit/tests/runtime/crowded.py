"""The service with routes that hold threads and connections; gunicorn runs it in one test."""

from fastapi import FastAPI

from app import main
from kit.tests.runtime import scenarios
from kit.tests.support import notes


def create_app() -> FastAPI:
    app = main.create_app()
    app.include_router(scenarios.router)
    app.include_router(notes.router)
    return app
