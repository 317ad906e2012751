"""The lifespan of a worker, in named phases; each is logged with its duration."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from types import ModuleType
from typing import TypeVar

import anyio.to_thread
import structlog
from fastapi import FastAPI

from slipway_kit.clock import now
from slipway_kit.config.server import ServerSettings
from slipway_kit.http.probes import Check, Drain, open_readiness
from slipway_kit.http.records import open_metrics
from slipway_kit.metrics.saturation import Sampled, open_saturation
from slipway_kit.overload.admission import Admission
from slipway_kit.overload.route_shedding import RouteShedding
from slipway_kit.runtime import runtime_of
from slipway_kit.server.watchdog import WatchdogSettings, open_watchdog
from slipway_kit.service.features import About
from slipway_kit.service.resources import Openers
from slipway_kit.tracing.provider import Traces, open_tracing
from slipway_kit.tracing.settings import TracingSettings

T = TypeVar("T")
log = structlog.get_logger()


def lifespan_of(
    about: About,
    *,
    features: Mapping[str, ModuleType],
    resources: Openers,
    checks: Sequence[Check],
    untraced: Collection[str],
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """Return the lifespan of the application.

    It opens `resources`, then the lifespans of `features`, each as a phase; they close in reverse.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        runtime = runtime_of(app)
        server, tracing = runtime.get(ServerSettings), runtime.get(TracingSettings)
        plan = server.shutdown
        limiter = anyio.to_thread.current_default_thread_limiter()
        limiter.total_tokens = server.threadpool_tokens
        attributes = {
            "service.name": about.SLUG,
            "service.version": about.VERSION,
            "deployment.environment.name": server.app_env,
        }
        async with (
            # Closed last, with its own deadline: closing the others makes spans too.
            open_tracing(
                tracing,
                runtime.get(Traces),
                service=attributes,
                flush_seconds=plan.flush,
                untraced=untraced,
            ),
            Phases(open_seconds=server.startup_seconds, close_seconds=plan.close) as phases,
        ):
            await phases.open("metrics", open_metrics(app, server))
            opened = [
                runtime.add(await phases.open(name, opener(runtime)))
                for name, opener in resources.items()
            ]
            for name, routes in features.items():
                if hasattr(routes, "lifespan"):
                    await phases.open(name, routes.lifespan(app))
            parts = [runtime.get(Admission), runtime.get(RouteShedding), *opened]
            sampled = [part for part in parts if isinstance(part, Sampled)]
            await phases.open("saturation", open_saturation(*sampled))
            runtime.add(await phases.open("readiness", open_readiness(runtime, checks)))
            # Last: blocking calls during the start delay no request.
            await phases.open("watchdog", open_watchdog(runtime.get(WatchdogSettings)))
            yield
            # Uvicorn without gunicorn does not drain before it stops.
            runtime.get(Drain).begin()

    return lifespan


class PhaseOverrunError(Exception):
    """A start-up phase exceeded its deadline; the traceback shows where it waited."""


class Phases(AsyncExitStack):
    """Opens resources in order, all within `open_seconds`; closes them in reverse order.

    All of them close within `close_seconds`.
    """

    def __init__(
        self, *, open_seconds: float, close_seconds: float, clock: Callable[[], float] = now
    ) -> None:
        super().__init__()
        self._clock = clock
        self._open_by, self._close_seconds = clock() + open_seconds, close_seconds
        self._close_by: float | None = None

    async def open(self, name: str, resource: AbstractAsyncContextManager[T]) -> T:
        """Enter `resource`, or raise `PhaseOverrunError`.

        An error while it closes is logged; the other resources still close.
        """
        started = self._clock()
        left = max(self._open_by - started, 0)
        deadline = asyncio.timeout(left)
        try:
            async with deadline:
                opened = await resource.__aenter__()
        except TimeoutError as error:
            if not deadline.expired():
                raise
            message = f"start-up phase {name} took longer than {left:g} s"
            raise PhaseOverrunError(message) from error
        log.info("phase opened", phase=name, ms=self._ms_since(started))
        self.push_async_callback(self._close, name, resource)
        return opened

    async def _close(self, name: str, resource: AbstractAsyncContextManager[object]) -> None:
        started = self._clock()
        self._close_by = self._close_by or started + self._close_seconds
        try:
            async with asyncio.timeout(max(self._close_by - started, 0)):
                await resource.__aexit__(None, None, None)
        except Exception:
            log.exception("phase failed to close", phase=name, ms=self._ms_since(started))
        else:
            log.info("phase closed", phase=name, ms=self._ms_since(started))

    def _ms_since(self, started: float) -> float:
        return round((self._clock() - started) * 1000, 1)
