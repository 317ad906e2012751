"""Assembles a service; parts are installed in the order of the code."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from fastapi import FastAPI
from fastapi.params import Depends
from starlette.middleware import Middleware
from structlog.typing import Processor

from slipway_kit.config.server import ServerSettings
from slipway_kit.db.migrations import known_versions
from slipway_kit.db.readiness import NO_ANSWER, SchemaCheck
from slipway_kit.http import (
    docs_pages,
    limits,
    metrics,
    observation,
    openapi,
    probes,
    problem_details,
)
from slipway_kit.http.finished import Records
from slipway_kit.http.probes import Check, Drain
from slipway_kit.http.refusals import AdmissionMiddleware, Refusals
from slipway_kit.logs.setup import LogSetup
from slipway_kit.overload.admission import Admission
from slipway_kit.overload.route_shedding import RouteShedding
from slipway_kit.runtime import Runtime, runtime_of
from slipway_kit.server import protocol
from slipway_kit.service import fast_paths
from slipway_kit.service.about import About
from slipway_kit.service.features import routers, tags
from slipway_kit.service.lifespan import lifespan_of
from slipway_kit.service.resources import Openers, Resources
from slipway_kit.service.settings import ServiceSettings
from slipway_kit.service.thread_check import refuse_more_threads_than_pool
from slipway_kit.tracing import provider as tracing

# Paths without spans.
UNTRACED = probes.PROBES | docs_pages.ASSETS


def assemble(  # noqa: PLR0913 (each is a hook for the service)
    settings: ServiceSettings,
    *,
    about: About,
    features: Sequence[str],
    resources: Openers,
    middleware: Sequence[Middleware] = (),
    dependencies: Sequence[Depends] = (),
    checks: Sequence[Check] = (),
    openapi_changes: Sequence[Callable[[dict[str, Any]], None]] = (),
    log_processors: Sequence[Processor] = (),
) -> FastAPI:
    """Return the application of a service.

    `features` are folders of `app/features`; their routes are served under /api/v1, each with
    `dependencies`. `resources` are opened in order. `middleware` runs inside that of the library,
    the first one outermost. Raises `SettingsError` when the settings do not suit the routes.
    """
    server = settings.server
    logs = LogSetup(
        server.log_level, server.logs_json, settings.tracing.enabled, tuple(log_processors)
    )
    logs.apply()
    tracing.load(settings.tracing)
    schema = Check(
        # Revisions are read here, in the master, once for all workers.
        SchemaCheck(settings.database, known_versions(about.ROOT / "migrations")),
        NO_ANSWER,
        once=not settings.readiness.requires_database,
    )
    app = FastAPI(
        title=about.NAME,
        description=about.DESCRIPTION,
        version=about.VERSION,
        openapi_url="/openapi.json" if server.serves_docs else None,
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=openapi.operation_id,
        lifespan=lifespan_of(
            about,
            features=features,
            resources=resources,
            checks=[schema, *checks],
            untraced=UNTRACED,
        ),
        telemetry=tracing.NO_TELEMETRY,
    )
    runtime = runtime_of(app)
    _fill(runtime, settings, logs)

    # Routes are matched in order: those with the most requests come first.
    for router in routers(features):
        app.include_router(router, prefix="/api/v1", dependencies=dependencies)
    app.include_router(probes.router)
    problem_details.install(app)
    openapi.install(
        app,
        settings.openapi,
        owner=about.OWNER,
        tags=tags(features),
        changes=openapi_changes,
    )
    docs_pages.install(app, server, settings.openapi)
    # Each middleware wraps those added before it.
    for each in reversed(middleware):
        app.add_middleware(each.cls, *each.args, **each.kwargs)
    limits.install(app, server)
    metrics.install(app)
    fast_paths.install(app, records=runtime.get(Records), traces=runtime.get(tracing.Traces))
    observation.install(app, server)
    _install_admission(app, server)
    refuse_more_threads_than_pool(app, settings.database, threads=server.threadpool_tokens)
    return app


def _fill(runtime: Runtime, settings: ServiceSettings, logs: LogSetup) -> None:
    runtime.add(settings)
    runtime.add(settings, ServiceSettings)
    for group in settings.parts():
        runtime.add(group)
    runtime.add(logs)
    runtime.add(Drain())
    runtime.add(RouteShedding())
    runtime.add(Admission())
    runtime.add(tracing.Traces(enabled=settings.tracing.enabled))
    runtime.add(Resources(runtime))


def _install_admission(app: FastAPI, server: ServerSettings) -> None:
    """Install admission control: in the protocol, as a middleware, or not at all.

    It is the outermost layer, so that a refusal is cheap.
    """
    runtime = runtime_of(app)
    supported = protocol.supported()
    refusals, drain = Refusals(server), runtime.get(Drain)
    options: dict[str, Any] = {
        "admission": runtime.get(Admission),
        "refusals": refusals,
        "drain": drain,
        "shedding": runtime.get(RouteShedding),
        "always": probes.PROBES | {server.root_path + path for path in probes.PROBES},
    }
    if server.admission == "middleware" or (server.admission == "protocol" and not supported):
        app.add_middleware(AdmissionMiddleware, **options)
    if not supported:
        http = protocol.HttpProtocol("httptools")
    elif server.admission == "protocol":
        http = protocol.HttpProtocol(partial(protocol.AdmittingProtocol, **options))
    else:
        bounded = partial(protocol.BoundedProtocol, refusals=refusals, drain=drain)
        http = protocol.HttpProtocol(bounded)
    runtime.add(http)
