"""Probes: liveness asks nothing of others, readiness asks what traffic would need.

None of them uses a thread or the database pool, so each answers when both are exhausted.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog
from fastapi import APIRouter, FastAPI, Request

from slipway_kit.clock import now
from slipway_kit.errors import Unavailable
from slipway_kit.http.drain import Drain
from slipway_kit.runtime import Runtime, runtime_of

# A probe's answer is good for this long, however many kubelets and balancers ask.
REUSE_SECONDS = 1.0
DEADLINE_SECONDS = 2.0
# Between two questions of a worker that nobody has asked yet; probes come as often.
PAUSE_SECONDS = 5.0

router = APIRouter(tags=["health"], include_in_schema=False)
PROBES = frozenset({"/livez", "/startupz", "/health", "/readyz"})
log = structlog.get_logger()


@dataclass(frozen=True)
class Check:
    """Something that a worker needs to take traffic.

    `ask` returns a sentence that names what is missing, or `None`. `no_answer` is that sentence
    when it raises, or takes longer than `DEADLINE_SECONDS`. A check with `once` is asked no more
    when it has passed: what all workers share would take every pod out of the Service when it
    fails, and clients would see refused connections.
    """

    ask: Callable[[Runtime], Awaitable[str | None]]
    no_answer: str
    once: bool = False


class NotReady(Unavailable):
    """This worker must not get traffic now; the text names what is missing."""


class Readiness:
    """What keeps traffic away, asked at most once at a time and once a second."""

    def __init__(
        self,
        checks: Sequence[Check],
        runtime: Runtime,
        *,
        clock: Callable[[], float] = now,
    ) -> None:
        self._open, self._runtime, self._clock = list(checks), runtime, clock
        self._asking: asyncio.Task[str | None] | None = None
        self._answered_at = 0.0

    async def obstacle(self) -> str | None:
        """Return why traffic cannot be served, or `None` when it can."""
        if not self._open:
            return None
        if self._asking is None or self._stale(self._asking):
            self._asking = asyncio.create_task(self._ask(), name="readiness")
        # shield: a prober that hangs up must not cancel the answer that others wait for.
        return await asyncio.shield(self._asking)

    async def settle(self, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Ask until every check has passed, unasked.

        Probes may have gone to the siblings of a worker so far: its first one must not find it
        unready because the database is gone just then.
        """
        while await self.obstacle() is not None:
            await sleep(PAUSE_SECONDS)

    async def close(self) -> None:
        """End a question that is still open."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)

    def _stale(self, asked: asyncio.Task[str | None]) -> bool:
        return asked.done() and self._clock() - self._answered_at >= REUSE_SECONDS

    async def _ask(self) -> str | None:
        found = await asyncio.gather(*map(self._answer, self._open))
        self._answered_at = self._clock()
        answers = list(zip(self._open, found, strict=True))
        self._open = [check for check, obstacle in answers if obstacle or not check.once]
        return next(filter(None, found), None)

    async def _answer(self, check: Check) -> str | None:
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                return await check.ask(self._runtime)
        except Exception as error:  # noqa: BLE001 - whatever keeps us from knowing is a reason
            log.warning("readiness check failed", error=repr(error), cause=repr(error.__cause__))
            return check.no_answer


def install(app: FastAPI) -> None:
    """Add the probes."""
    app.include_router(router)


@asynccontextmanager
async def open_readiness(runtime: Runtime, checks: Sequence[Check]) -> AsyncIterator[Readiness]:
    """Let /readyz ask `checks`."""
    readiness = Readiness(checks, runtime)
    settling = asyncio.create_task(readiness.settle(), name="readiness settles")
    try:
        yield readiness
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
    runtime = runtime_of(request)
    if runtime.get(Drain).draining:
        raise NotReady("The service is leaving.")
    if obstacle := await runtime.get(Readiness).obstacle():
        raise NotReady(obstacle)
    return {"status": "ok"}
