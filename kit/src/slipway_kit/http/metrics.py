"""Request metrics of an app, and /metrics of a single process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from prometheus_client import REGISTRY, CollectorRegistry, start_http_server, values

from slipway_kit.config.server import ServerSettings
from slipway_kit.http.finished import Records, RequestMetrics
from slipway_kit.runtime import runtime_of


def install(app: FastAPI) -> None:
    """Give the app its own registry and request metrics, without probes."""
    runtime = runtime_of(app)
    registry = runtime.add(CollectorRegistry())
    runtime.add(Records(RequestMetrics(registry)))


@asynccontextmanager
async def open_metrics(app: FastAPI, server: ServerSettings) -> AsyncIterator[None]:
    """Serve /metrics from a thread, unless a master does it for all workers or the port is 0."""
    if server.metrics_port == 0 or values.ValueClass._multiprocess:  # noqa: SLF001 (no public way to ask)
        yield
        return
    both = CollectorRegistry()
    both.register(REGISTRY)
    both.register(runtime_of(app).get(CollectorRegistry))
    httpd, thread = start_http_server(server.metrics_port, addr=server.host, registry=both)
    try:
        yield
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()
