"""The lifespan of a worker."""

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anyio.to_thread
from fastapi import FastAPI

from slipway_kit.config.server import ServerSettings
from slipway_kit.http import metrics
from slipway_kit.http.probes import Check, Drain, open_readiness
from slipway_kit.metrics.saturation import Sampled, open_saturation
from slipway_kit.overload.admission import Admission
from slipway_kit.overload.route_shedding import RouteShedding
from slipway_kit.runtime import runtime_of
from slipway_kit.server.watchdog import WatchdogSettings, open_watchdog
from slipway_kit.service.about import About
from slipway_kit.service.features import lifespans
from slipway_kit.service.phases import open_phases
from slipway_kit.service.resources import Openers
from slipway_kit.tracing.provider import Traces, open_tracing
from slipway_kit.tracing.settings import TracingSettings


def lifespan_of(
    about: About,
    *,
    features: Sequence[str],
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
        async with (
            # Closed last, with its own deadline: closing the others makes spans too.
            open_tracing(
                tracing,
                service=_resource_attributes(about, server, tracing),
                flush_seconds=plan.flush,
                traces=runtime.get(Traces),
                untraced=untraced,
            ),
            open_phases(open_seconds=server.startup_seconds, close_seconds=plan.close) as phases,
        ):
            await phases.open("metrics", metrics.open_metrics(app, server))
            opened = [
                runtime.add(await phases.open(name, opener(runtime)))
                for name, opener in resources.items()
            ]
            for name, feature in lifespans(features).items():
                await phases.open(name, feature(app))
            sampled = [runtime.get(Admission), runtime.get(RouteShedding), *opened]
            await phases.open("saturation", open_saturation(*_sampled(sampled)))
            readiness = await phases.open("readiness", open_readiness(runtime, checks))
            runtime.add(readiness)
            # Last: blocking calls during the start delay no request.
            await phases.open("watchdog", open_watchdog(runtime.get(WatchdogSettings)))
            yield
            # Uvicorn without gunicorn does not drain before it stops.
            runtime.get(Drain).begin()

    return lifespan


def _sampled(parts: Iterable[object]) -> list[Sampled]:
    """Return the parts that have sampled gauges."""
    return [part for part in parts if isinstance(part, Sampled)]


def _resource_attributes(
    about: About, server: ServerSettings, tracing: TracingSettings
) -> dict[str, str]:
    """Return the resource attributes of the service."""
    return {
        "service.name": tracing.service_name or about.SLUG,
        "service.version": about.VERSION,
        "deployment.environment.name": server.app_env,
    }
