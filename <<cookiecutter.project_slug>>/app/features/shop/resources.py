"""What the shop keeps for the life of a worker."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from fastapi import Depends, FastAPI
from starlette.requests import HTTPConnection

from app.features.shop import imports, stock
from app.features.shop.advice import Assistant, HouseAssistant, RemoteAssistant
from app.features.shop.schemas import GameIn, Stock, Summary
from app.features.shop.settings import Settings
from app.features.shop.summaries import Summaries
from slipway_kit.concurrency.batcher import Batcher
from slipway_kit.concurrency.cache import Cache
from slipway_kit.concurrency.work_queue import WorkQueue
from slipway_kit.service.resources import Resources


@dataclass(frozen=True, slots=True)
class ShopResources:
    """Shared by every request of the shop."""

    imports: WorkQueue[list[GameIn]]
    stock: Batcher[int, Stock]
    summaries: Summaries
    assistant: Assistant
    announce_url: str | None


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open them on top of the service's own; at shutdown the queue and the batcher are drained."""
    settings = app.state.settings.feature(Settings)
    grace_seconds = app.state.settings.server.shutdown.close / 2
    app.state.resources.offload.declare(imports.THREADS, threads=2)
    shop = _assemble(settings, app.state.resources)
    app.state.shop = shop
    async with shop.stock.running(), shop.imports.running(grace_seconds=grace_seconds):
        yield


def _assemble(settings: Settings, resources: Resources) -> ShopResources:
    database = resources.database
    return ShopResources(
        imports=WorkQueue(
            "imports",
            partial(imports.store, database),
            size=settings.import_queue_size,
            workers=settings.import_workers,
        ),
        stock=stock.batcher(database),
        summaries=Summaries(
            database,
            resources.tasks,
            Cache("summary", Summary, ttl_seconds=settings.summary_max_age_seconds, max_entries=1),
            fresh_seconds=settings.summary_fresh_seconds,
        ),
        assistant=_assistant(settings, resources),
        announce_url=str(settings.announce_url) if settings.announce_url else None,
    )


def _assistant(settings: Settings, resources: Resources) -> Assistant:
    if settings.assistant_url is None:
        return HouseAssistant()
    return RemoteAssistant(resources.http, str(settings.assistant_url))


# async: a plain function would take a thread of the pool for each request.
async def get_shop(connection: HTTPConnection) -> ShopResources:
    """Find the resources of the running shop, from an HTTP request or a WebSocket."""
    shop: ShopResources = connection.app.state.shop
    return shop


ShopDep = Annotated[ShopResources, Depends(get_shop)]
