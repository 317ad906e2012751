"""The summary of the catalogue: cached, shared by all readers, refreshed in the background."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from app.features.shop import queries
from app.features.shop.schemas import Summary
from slipway_kit.concurrency import Cache, Tasks
from slipway_kit.db import Database

_KEY = "summary"


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Summaries:
    """The summary cache of one worker, with stale-while-revalidate.

    Without a cached summary all readers share one computation. A stale summary is returned at once
    while one background task refreshes it; when that fails, the next reader starts another one.
    """

    def __init__(
        self,
        database: Database,
        tasks: Tasks,
        cache: Cache[Summary],
        *,
        fresh_seconds: float,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._database, self._tasks, self._cache = database, tasks, cache
        self._fresh = timedelta(seconds=fresh_seconds)
        self._now = now
        self._refresh: asyncio.Task[None] | None = None

    async def get(self) -> Summary:
        """Return the summary; `as_of` is the time of its computation."""
        summary = await self._cache.get(_KEY, self._count)
        if self.age(summary) > self._fresh and (self._refresh is None or self._refresh.done()):
            self._refresh = self._tasks.spawn(self._refresh_cache)
        return summary

    def age(self, summary: Summary) -> timedelta:
        """Return how long ago `summary` was counted."""
        return max(self._now() - summary.as_of, timedelta())

    async def _count(self) -> Summary:
        # Its own session: the computation is shared, and may outlive the request.
        async with self._database.reading() as session:
            return await queries.summary(session, as_of=self._now())

    async def _refresh_cache(self) -> None:
        summary = await self._count()

        async def counted() -> Summary:
            return summary

        # Deleted only now: until here readers get the old summary.
        await self._cache.delete(_KEY)
        await self._cache.get(_KEY, counted)
