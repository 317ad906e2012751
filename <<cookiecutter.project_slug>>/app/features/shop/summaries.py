"""The catalogue at a glance: counted once for everyone, and anew behind their backs."""

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
    """Gives the summary of one worker, never older than the cache keeps it.

    Readers who find none wait for one count together. Once it is stale they get it at once all the
    same, and one supervised task counts anew; when that fails the old one stays, and the next
    reader tries again.
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
        """Return the summary; its `as_of` says from when it is."""
        summary = await self._cache.get(_KEY, self._count)
        if self.age(summary) > self._fresh and (self._refresh is None or self._refresh.done()):
            self._refresh = self._tasks.spawn(self._count_anew)
        return summary

    def age(self, summary: Summary) -> timedelta:
        """Return how long ago `summary` was counted."""
        return max(self._now() - summary.as_of, timedelta())

    async def _count(self) -> Summary:
        # Its own session: the count is shared, and outlives the request that began it.
        async with self._database.reading() as session:
            return await queries.summary(session, as_of=self._now())

    async def _count_anew(self) -> None:
        summary = await self._count()

        async def counted() -> Summary:
            return summary

        # Only now, so that readers had the old one all the while.
        await self._cache.delete(_KEY)
        await self._cache.get(_KEY, counted)
