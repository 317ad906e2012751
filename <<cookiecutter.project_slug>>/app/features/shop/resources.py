"""Objects of the shop that live as long as the worker."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from fastapi import Depends, FastAPI
from fastapi.requests import HTTPConnection

from app.features.shop import imports, stock
from app.features.shop.advice import Assistant, HouseAssistant, RemoteAssistant
from app.features.shop.schemas import GameIn, Stock, Summary
from app.features.shop.settings import Settings
from app.features.shop.summaries import Summaries
from slipway_kit.concurrency import Batcher, Cache, WorkQueue
from slipway_kit.config import ServerSettings
from slipway_kit.service import Resources, runtime_of


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
    """Open the resources of the shop; at shutdown its queue and batcher are drained."""
    runtime = runtime_of(app)
    grace_seconds = runtime.get(ServerSettings).shutdown.close / 2
    resources = runtime.get(Resources)
    resources.offload.declare(imports.THREADS, threads=2)
    shop = runtime.add(_assemble(runtime.get(Settings), resources))
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


# async: a plain function would use a thread of the pool for each request.
async def get_shop(connection: HTTPConnection) -> ShopResources:
    """Return the resources of the shop, for an HTTP request or a WebSocket."""
    return runtime_of(connection).get(ShopResources)


ShopDep = Annotated[ShopResources, Depends(get_shop)]
