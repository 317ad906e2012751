"""Probes, and the drain of a worker: it finishes its requests and sends clients to other workers.

Liveness checks the event loop alone, readiness the dependencies as well. None of them uses a thread
or the database pool, so they answer when both are exhausted.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog
from fastapi import APIRouter, Request
from starlette.status import WS_1012_SERVICE_RESTART
from starlette.websockets import WebSocket

from slipway_kit.clock import now
from slipway_kit.errors import Unavailable
from slipway_kit.runtime import Runtime, runtime_of

# A result is reused for this long, however many probes arrive.
REUSE_SECONDS = 1.0
DEADLINE_SECONDS = 2.0
# Between the checks that a new worker makes before its first probe.
PAUSE_SECONDS = 5.0

router = APIRouter(tags=["health"], include_in_schema=False)
PROBES = frozenset({"/livez", "/startupz", "/health", "/readyz"})
log = structlog.get_logger()


class Drain:
    """The drain of one app, which the worker process begins."""

    def __init__(self) -> None:
        self.draining = False

    def begin(self) -> None:
        """From now on readiness fails, and each answer closes its connection."""
        self.draining = True


async def close_if_draining(socket: WebSocket) -> bool:
    """Close a WebSocket with 1012 if this worker drains, and return whether it did.

    Call it when no message of the client is unanswered: at the end of the drain the server closes
    every WebSocket with the same code, messages in flight or not.
    """
    drain = runtime_of(socket).get(Drain)
    if drain.draining:
        await socket.close(WS_1012_SERVICE_RESTART)
    return drain.draining


@dataclass(frozen=True)
class Check:
    """A condition of readiness.

    `ask` returns a sentence that names what is missing, or `None`. `no_answer` is that sentence
    when `ask` raises or takes longer than `DEADLINE_SECONDS`. A check with `once` runs until it has
    passed: the outage of a dependency that all pods share must not take every pod out of the
    Service, for clients would see refused connections.
    """

    ask: Callable[[Runtime], Awaitable[str | None]]
    no_answer: str
    once: bool = False


class NotReady(Unavailable):
    """This worker must not receive traffic; the text names the reason."""


class Readiness:
    """Runs the checks, at most once at a time and once per `REUSE_SECONDS`."""

    def __init__(
        self, checks: Sequence[Check], runtime: Runtime, *, clock: Callable[[], float] = now
    ) -> None:
        self._pending, self._runtime, self._clock = list(checks), runtime, clock
        self._asking: asyncio.Task[str | None] | None = None
        self._answered_at = 0.0

    async def obstacle(self) -> str | None:
        """Return why the worker is not ready, or `None`."""
        if not self._pending:
            return None
        age = self._clock() - self._answered_at
        if self._asking is None or (self._asking.done() and age >= REUSE_SECONDS):
            self._asking = asyncio.create_task(self._ask(), name="readiness")
        # shield: a prober that disconnects must not cancel the check for the others.
        return await asyncio.shield(self._asking)

    async def settle(self, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Run the checks until all have passed.

        The first probe of a worker may come late, when the database has an outage.
        """
        while await self.obstacle() is not None:
            await sleep(PAUSE_SECONDS)

    async def close(self) -> None:
        """Cancel a check in flight."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)

    async def _ask(self) -> str | None:
        found = await asyncio.gather(*map(self._answer, self._pending))
        self._answered_at = self._clock()
        answers = list(zip(self._pending, found, strict=True))
        self._pending = [check for check, obstacle in answers if obstacle or not check.once]
        return next(filter(None, found), None)

    async def _answer(self, check: Check) -> str | None:
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                return await check.ask(self._runtime)
        except Exception as error:  # noqa: BLE001 - every failure is a reason
            log.warning("readiness check failed", error=repr(error), cause=repr(error.__cause__))
            return check.no_answer


@asynccontextmanager
async def open_readiness(runtime: Runtime, checks: Sequence[Check]) -> AsyncIterator[Readiness]:
    """Open the readiness of /readyz, and run `checks` until they have passed."""
    readiness = Readiness(checks, runtime)
    settling = asyncio.create_task(readiness.settle(), name="readiness settles")
    try:
        yield readiness
    finally:
        settling.cancel()
        await asyncio.gather(settling, return_exceptions=True)
        await readiness.close()


@router.get("/livez")
@router.get("/startupz")
async def live() -> dict[str, str]:
    """Answer while the event loop runs, and not before the start-up is over.

    A failing database must not restart the pod.
    """
    return {"status": "ok"}


@router.get("/health")
async def health() -> dict[str, str]:
    """Answer in the form that many load balancers expect."""
    return {"status": "healthy"}


@router.get("/readyz")
async def ready(request: Request) -> dict[str, str]:
    """Answer 200 when the worker is ready for traffic, else 503 with the reason."""
    runtime = runtime_of(request)
    if runtime.get(Drain).draining:
        raise NotReady("The service is shutting down.")
    if obstacle := await runtime.get(Readiness).obstacle():
        raise NotReady(obstacle)
    return {"status": "ok"}
