"""Traces: one span a request and one for each call that it makes, sent on by OTLP over HTTP.

Without an endpoint nothing of the SDK is imported, and a request does not ask for it.
"""

import os
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import structlog
from fastapi.telemetry import TelemetryConfig
from opentelemetry import propagate, trace

from slipway_kit.trace_context import TRACE_CONTEXT
from slipway_kit.tracing.origin import Origin
from slipway_kit.tracing.settings import TracingSettings

if TYPE_CHECKING:
    import httpx

    from slipway_kit.tracing.request_spans import RequestSpans

log = structlog.get_logger()


# FastAPI's own telemetry makes no spans beside those of the middleware that observes requests.
NO_TELEMETRY: TelemetryConfig = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}


class Traces:
    """What makes the spans of requests, while traces are open, and where spans come from."""

    def __init__(self, *, enabled: bool = False) -> None:
        self.enabled = enabled
        self.spans: RequestSpans | None = None
        self.origin: type[Origin] = Origin


def load(settings: TracingSettings) -> None:
    """Import what traces need; without them it never is.

    To be called before workers are forked: each would take a tenth of a second for it.
    """
    if settings.enabled:
        import opentelemetry.instrumentation.httpx  # noqa: F401, PLC0415

        from slipway_kit.tracing import export  # noqa: F401, PLC0415


@asynccontextmanager
async def open_tracing(
    settings: TracingSettings,
    *,
    service: Mapping[str, str],
    flush_seconds: float,
    traces: Traces | None = None,
    untraced: Collection[str] = (),
) -> AsyncIterator[None]:
    """Record and send spans until the block ends, then give `flush_seconds` to what is queued.

    `service` describes this service in OpenTelemetry's names, and the environment may say
    otherwise. Only one app of a process has traces. What is wrong with the SDK is logged and ends
    no worker. `traces` get what makes the spans of requests to all but the `untraced` paths.
    """
    if not settings.enabled:
        yield
        return
    # Without traces never imported.
    from slipway_kit.tracing.export import SpanExport, rare_lines  # noqa: PLC0415

    with rare_lines():
        try:
            export = SpanExport(settings, service=service)
        except Exception:
            log.exception("no traces: the OpenTelemetry SDK does not accept its settings")
            yield
            return
        _follow_standards()
        trace.set_tracer_provider(export.provider)
        if traces is not None:
            traces.spans = export.request_spans(untraced=untraced, origin=traces.origin)
        try:
            yield
        finally:
            if traces is not None:
                traces.spans = None
            await export.close(seconds=flush_seconds)


def trace_client(client: "httpx.AsyncClient") -> None:
    """Make a span of each attempt of `client` and send the trace along; nothing without traces."""
    if not recording():
        return
    from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor  # noqa: PLC0415

    HTTPXClientInstrumentor.instrument_client(client)


def recording() -> bool:
    """Whether this process has opened its traces."""
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def _follow_standards() -> None:
    """Choose what the SDK leaves open."""
    # Without it instrumentations use the names of 2022.
    os.environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "http,database")
    if "OTEL_PROPAGATORS" not in os.environ:
        # By default baggage is read too: 8 KiB of blanks in it keep the parser, and the event loop,
        # busy for 0.2 s (measured), and what strangers send would be passed on to other services.
        propagate.set_global_textmap(TRACE_CONTEXT)
