"""More threads than connections stop the start where they would only wait."""

from typing import Any

import pytest
from fastapi import APIRouter, FastAPI

from slipway_kit.db.sessions import ReadSessionDep, SessionDep
from slipway_kit.db.settings import DatabaseSettings
from slipway_kit.errors import SettingsError
from slipway_kit.service.thread_check import refuse_more_threads_than_pool


def sync_route(session: SessionDep) -> None: ...


async def async_route(session: ReadSessionDep) -> None: ...


async def async_route_without_session() -> None: ...


def sync_route_without_session() -> None: ...


@pytest.mark.parametrize(
    ("endpoint", "threads", "refused"),
    [
        (sync_route, 6, True),
        (sync_route, 5, False),
        (async_route, 6, False),
        (async_route_without_session, 6, False),
        (sync_route_without_session, 6, False),
    ],
)
def test_more_threads_than_the_pool_serves_are_refused_when_they_use_the_database(
    endpoint: Any, threads: int, refused: bool
) -> None:
    router = APIRouter(prefix="/nested")
    router.add_api_route("/route", endpoint)
    app = FastAPI()
    app.include_router(router, prefix="/api")
    settings = DatabaseSettings(pool_size=3, max_overflow=2)
    if not refused:
        refuse_more_threads_than_pool(app, settings, threads=threads)
        return
    with pytest.raises(SettingsError, match=r"/api/nested/route .* lower it to 5"):
        refuse_more_threads_than_pool(app, settings, threads=threads)
