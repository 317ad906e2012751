"""Assembles a service; parts are installed in the order of the code."""

from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from typing import Any

import structlog
from fastapi import FastAPI
from fastapi.params import Depends
from prometheus_client import CollectorRegistry
from starlette.middleware import Middleware
from structlog.typing import Processor

from slipway_kit.config.server import ServerSettings
from slipway_kit.db.migrations import NO_ANSWER, SchemaCheck, known_versions
from slipway_kit.http import (
    docs_pages,
    limits,
    observation,
    openapi,
    probes,
    problem_details,
)
from slipway_kit.http.probes import Check, Drain
from slipway_kit.http.records import Records
from slipway_kit.http.refusals import AdmissionMiddleware, Refusals
from slipway_kit.logs.setup import LogSetup
from slipway_kit.overload.admission import Admission
from slipway_kit.overload.route_shedding import RouteShedding
from slipway_kit.runtime import runtime_of
from slipway_kit.server import protocol
from slipway_kit.service.features import About, import_routes
from slipway_kit.service.lifespan import lifespan_of
from slipway_kit.service.resources import Openers, Resources
from slipway_kit.service.settings import ServiceSettings
from slipway_kit.service.thread_check import refuse_more_threads_than_pool
from slipway_kit.tracing import provider as tracing

log = structlog.get_logger()
_FAST_PATHS = "slipway_kit.fast"


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
    routes = import_routes(features)
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
            features=routes,
            resources=resources,
            checks=[schema, *checks],
            untraced=probes.PROBES | docs_pages.ASSETS,
        ),
        telemetry=tracing.NO_TELEMETRY,
    )
    runtime = runtime_of(app)
    runtime.add(settings, ServiceSettings)
    for part in (settings, *settings.parts(), logs, Drain(), RouteShedding(), Admission()):
        runtime.add(part)
    runtime.add(tracing.Traces(enabled=settings.tracing.enabled))
    runtime.add(Records(runtime.add(CollectorRegistry())))
    runtime.add(Resources(runtime))

    # Routes are matched in order: those with the most requests come first.
    for module in routes.values():
        app.include_router(module.router, prefix="/api/v1", dependencies=dependencies)
    app.include_router(probes.router)
    problem_details.install(app)
    openapi.install(
        app,
        settings.openapi,
        owner=about.OWNER,
        tags={
            name: text
            for module in routes.values()
            for name, text in getattr(module, "TAGS", {}).items()
        },
        changes=openapi_changes,
    )
    docs_pages.install(app, server, settings.openapi)
    # Each middleware wraps those added before it.
    for each in reversed(middleware):
        app.add_middleware(each.cls, *each.args, **each.kwargs)
    limits.install(app, server)
    _install_fast_paths(app)
    observation.install(app, server)
    _install_admission(app, server)
    refuse_more_threads_than_pool(app, settings.database, threads=server.threadpool_tokens)
    return app


def _install_fast_paths(app: FastAPI) -> None:
    """Enable the supported fast paths; their folder is optional."""
    try:
        fast = import_module(_FAST_PATHS)
    except ModuleNotFoundError as missing:
        if missing.name != _FAST_PATHS:
            raise
        log.info("fast paths are not installed")
    else:
        fast.install(app)


def _install_admission(app: FastAPI, server: ServerSettings) -> None:
    """Install admission control: in the protocol, as a middleware, or not at all.

    It is the outermost layer, so that a refusal is cheap.
    """
    runtime = runtime_of(app)
    supported = protocol.supported()
    in_protocol = server.admission == "protocol" and supported
    refusals, drain = Refusals(server), runtime.get(Drain)
    options: dict[str, Any] = {
        "admission": runtime.get(Admission),
        "refusals": refusals,
        "drain": drain,
        "shedding": runtime.get(RouteShedding),
        "always": probes.PROBES | {server.root_path + path for path in probes.PROBES},
    }
    factory: str | Callable[..., Any] = "httptools"
    if in_protocol:
        factory = partial(protocol.AdmittingProtocol, **options)
    elif supported:
        factory = partial(protocol.BoundedProtocol, refusals=refusals, drain=drain)
    if server.admission != "off" and not in_protocol:
        app.add_middleware(AdmissionMiddleware, **options)
    runtime.add(protocol.HttpProtocol(factory))
