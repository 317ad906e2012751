"""Probes: liveness asks nothing of others, readiness asks what traffic would need.

None of them uses a thread or the database pool, so each answers when both are exhausted.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import structlog
from fastapi import APIRouter, FastAPI, Request
from pydantic import Field
from pydantic_settings import SettingsConfigDict

from slipway_kit.config.group import Group
from slipway_kit.db.migrations import Versions, applied_versions, known_versions
from slipway_kit.db.settings import DatabaseSettings
from slipway_kit.errors import Unavailable

# A probe's answer is good for this long, however many kubelets and balancers ask.
REUSE_SECONDS = 1.0
DEADLINE_SECONDS = 2.0
# Between two questions of a worker that nobody has asked yet; probes come as often.
PAUSE_SECONDS = 5.0

router = APIRouter(tags=["health"], include_in_schema=False)
PROBES = frozenset({"/livez", "/startupz", "/health", "/readyz"})
log = structlog.get_logger()


class ReadinessSettings(Group):
    """What a worker needs to take traffic."""

    model_config = SettingsConfigDict(env_prefix="READINESS_")

    requires_database: bool = Field(
        default=False, description="leave the Service while the database does not answer"
    )


class NotReady(Unavailable):
    """This worker must not get traffic now; the text names what is missing."""


class Readiness:
    """Whether the schema fits, asked of the database at most once at a time and once a second.

    Once it fits it is asked no more, unless `requires_database`: else one restart of the database
    would take every pod out of the Service, and clients would see refused connections.
    """

    def __init__(
        self,
        look: Callable[[], Awaitable[frozenset[str]]],
        versions: Versions,
        *,
        requires_database: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look, self._versions = look, versions
        self._requires_database, self._clock = requires_database, clock
        self._fitted = False
        self._asking: asyncio.Task[str | None] | None = None
        self._answered_at = 0.0

    async def obstacle(self) -> str | None:
        """Return why traffic cannot be served, or `None` when it can."""
        if self._fitted and not self._requires_database:
            return None
        if self._asking is None or self._stale(self._asking):
            self._asking = asyncio.create_task(self._ask(), name="readiness")
        # shield: a prober that hangs up must not cancel the answer that others wait for.
        return await asyncio.shield(self._asking)

    async def settle(self, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Ask until the schema fits, unasked.

        Probes may have gone to the siblings of a worker so far: its first one must not find it
        unready because the database is gone just then.
        """
        while not self._fitted:
            await self.obstacle()
            if not self._fitted:
                await sleep(PAUSE_SECONDS)

    async def close(self) -> None:
        """End a question that is still open."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)

    def _stale(self, asked: asyncio.Task[str | None]) -> bool:
        return asked.done() and self._clock() - self._answered_at >= REUSE_SECONDS

    async def _ask(self) -> str | None:
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                found = await self._look()
        except Exception as error:  # noqa: BLE001 - whatever keeps us from knowing is a reason
            log.warning("readiness check failed", error=repr(error), cause=repr(error.__cause__))
            return "The database does not answer."
        else:
            obstacle = None if self._fitted else self._versions.obstacle(found)
            self._fitted = obstacle is None
            return obstacle
        finally:
            self._answered_at = self._clock()


def install(app: FastAPI) -> None:
    """Add the probes."""
    # Read here, once for all workers that the master forks later.
    app.state.versions = known_versions()
    app.include_router(router)


@asynccontextmanager
async def open_health(
    app: FastAPI, settings: ReadinessSettings, database: DatabaseSettings
) -> AsyncIterator[None]:
    """Let /readyz ask `database`, on a connection outside the pool."""

    async def look() -> frozenset[str]:
        return await applied_versions(database)

    readiness = Readiness(look, app.state.versions, requires_database=settings.requires_database)
    app.state.readiness = readiness
    settling = asyncio.create_task(readiness.settle(), name="readiness settles")
    try:
        yield
    finally:
        settling.cancel()
        await asyncio.gather(settling, return_exceptions=True)
        await readiness.close()


@router.get("/livez")
async def live() -> dict[str, str]:
    """Say that the event loop turns; a failing database must not restart the pod."""
    return {"status": "ok"}


@router.get("/startupz")
async def started() -> dict[str, str]:
    """Say that the start-up is over: before that nobody answers."""
    return {"status": "ok"}


@router.get("/health")
async def health() -> dict[str, str]:
    """Say that the service is there, in the words that balancers are told to expect."""
    return {"status": "healthy"}


@router.get("/readyz")
async def ready(request: Request) -> dict[str, str]:
    """Say whether traffic should come here, or why not."""
    if request.app.state.drain.draining:
        raise NotReady("The service is leaving.")
    readiness: Readiness = request.app.state.readiness
    if obstacle := await readiness.obstacle():
        raise NotReady(obstacle)
    return {"status": "ok"}
