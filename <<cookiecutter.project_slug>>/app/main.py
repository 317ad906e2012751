"""The composition root: the one place that knows every part of the service.

Nothing happens at import; gunicorn, the tests and the tools all call `create_app`.
"""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from importlib import import_module
from types import ModuleType

import anyio.to_thread
from fastapi import FastAPI

from app import about
from app.enabled import FEATURES
from app.settings import Settings
from slipway_kit.client.client import open_http_client
from slipway_kit.concurrency.offload import Offload, open_offload
from slipway_kit.concurrency.tasks import open_tasks
from slipway_kit.db.engine import open_database
from slipway_kit.http import docs_pages as docs
from slipway_kit.http import limits as edge
from slipway_kit.http import metrics, openapi, problems
from slipway_kit.http import observation as observe
from slipway_kit.http import probes as health
from slipway_kit.http.dependencies import refuse_more_threads_than_pool
from slipway_kit.http.drain import Drain
from slipway_kit.logs import setup as logs
from slipway_kit.metrics.saturation import open_saturation
from slipway_kit.overload.route_shedding import RouteShedding
from slipway_kit.server import entrance
from slipway_kit.server.watchdog import open_watchdog
from slipway_kit.service import fast_paths
from slipway_kit.service.phases import open_phases
from slipway_kit.service.resources import Resources
from slipway_kit.tracing import provider as tracing

# Paths that make no spans.
UNTRACED = health.PROBES | docs.ASSETS


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the application; `settings` default to the environment.

    Raises `SettingsError` when the configuration makes no sense.
    """
    settings = settings or Settings.load()
    server = settings.server
    traces = settings.tracing.enabled
    logs.configure(level=server.log_level, json=server.logs_json, traces=traces)
    tracing.load(settings.tracing)
    app = FastAPI(
        title=about.NAME,
        description=about.DESCRIPTION,
        version=about.VERSION,
        openapi_url="/openapi.json" if server.serves_docs else None,
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=openapi.operation_id,
        lifespan=_lifespan,
        telemetry=tracing.NO_TELEMETRY,
    )
    app.state.settings = settings
    app.state.drain = Drain()
    app.state.shedding = RouteShedding()
    app.state.traces = tracing.Traces(enabled=traces)

    # A request tries one route after another: first those that most requests are for.
    for feature in FEATURES:
        app.include_router(_routes(feature).router, prefix="/api/v1")
    health.install(app)
    problems.install(app)
    openapi.install(app, settings.openapi, owner=about.OWNER, tags=_tags())
    docs.install(app, server, settings.openapi)
    edge.install(app, server)
    metrics.install(app)
    fast_paths.install(app, records=app.state.records, traces=app.state.traces)
    observe.install(app, server)
    entrance.install(app, server, always=health.PROBES)
    refuse_more_threads_than_pool(app, settings.database, threads=server.threadpool_tokens)
    return app


def _routes(feature: str) -> ModuleType:
    """Return the module with a feature's `router`, and its `lifespan` and `TAGS` if it has them."""
    return import_module(f"app.features.{feature}.routes")


def _tags() -> dict[str, str]:
    """Return what each tag of the features is about."""
    found: list[dict[str, str]] = [getattr(_routes(feature), "TAGS", {}) for feature in FEATURES]
    return {name: text for tags in found for name, text in tags.items()}


def _open_offload(settings: Settings) -> AbstractAsyncContextManager[Offload]:
    server = settings.server
    # Not a closure: it is sent to the processes.
    prepare = partial(
        logs.configure,
        level=server.log_level,
        json=server.logs_json,
        traces=settings.tracing.enabled,
    )
    return open_offload(
        settings.offload,
        threads_wait_seconds=server.threadpool_wait_seconds,
        grace_seconds=server.shutdown.close / 4,
        prepare=prepare,
    )


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open what every request shares, in the order of dependency; it closes in reverse."""
    settings: Settings = app.state.settings
    server = settings.server
    plan = server.shutdown
    anyio.to_thread.current_default_thread_limiter().total_tokens = server.threadpool_tokens
    async with (
        # Closed last and on its own time: closing the others makes spans too.
        tracing.open_tracing(
            settings.tracing,
            service=_description(settings),
            flush_seconds=plan.flush,
            traces=app.state.traces,
            untraced=UNTRACED,
        ),
        open_phases(open_seconds=server.startup_seconds, close_seconds=plan.close) as phases,
    ):
        await phases.open("metrics", metrics.open_metrics(app, server))
        app.state.resources = Resources(
            database=await phases.open(
                "database", open_database(settings.database, spans=app.state.traces.origin)
            ),
            offload=await phases.open("offload", _open_offload(settings)),
            http=await phases.open("http client", open_http_client(settings.http_client)),
            # After what they borrow, so that they are drained before it closes.
            tasks=await phases.open("tasks", open_tasks(grace_seconds=plan.close / 2)),
        )
        for feature in FEATURES:
            if lifespan := getattr(_routes(feature), "lifespan", None):
                await phases.open(feature, lifespan(app))
        own = app.state.resources
        sampled = (own.database, own.offload, own.http, app.state.admission, app.state.shedding)
        await phases.open("saturation", open_saturation(*sampled))
        await phases.open("health", health.open_health(app, settings.readiness, settings.database))
        # Last: what blocks while the service starts holds up nobody.
        await phases.open("watchdog", open_watchdog(settings.watchdog))
        yield
        # Not every server drains before it stops: uvicorn alone does not.
        app.state.drain.begin()


def _description(settings: Settings) -> dict[str, str]:
    """Describe the service to those who read its traces."""
    return {
        "service.name": settings.tracing.service_name or about.SLUG,
        "service.version": about.VERSION,
        "deployment.environment.name": settings.server.app_env,
    }
