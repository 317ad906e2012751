"""Tracing: a span for each request and each of its calls, exported by OTLP over HTTP.

Without an endpoint nothing of the SDK is imported, and requests do no tracing work.
"""

import os
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import structlog
from fastapi.telemetry import TelemetryConfig
from opentelemetry import propagate, trace
from opentelemetry.semconv.attributes.url_attributes import URL_FULL

from slipway_kit.otel_variables import NOTES
from slipway_kit.trace_context import TRACE_CONTEXT
from slipway_kit.tracing.settings import TracingSettings

if TYPE_CHECKING:
    import httpx
    from opentelemetry.sdk.trace import TracerProvider

    from slipway_kit.tracing.request_spans import RequestSpans

log = structlog.get_logger()

# FastAPI's own telemetry is off: `ObservationMiddleware` makes the request spans.
NO_TELEMETRY: TelemetryConfig = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}


class Traces:
    """The maker of request spans, while tracing is open."""

    spans: "RequestSpans | None" = None
    # A fast path may set a faster one than the SDK's.
    provider_class: "type[TracerProvider] | None" = None

    def __init__(self, *, enabled: bool = False) -> None:
        self.enabled = enabled


def log_notes() -> None:
    """Log once which OTEL_ variables are not honoured."""
    while NOTES:
        log.warning(NOTES.pop(0))


def load(settings: TracingSettings) -> None:
    """Log what is not honoured, and import the SDK if tracing is enabled.

    Call it before the workers are forked: the import takes a tenth of a second.
    """
    log_notes()
    if settings.enabled:
        import opentelemetry.instrumentation.httpx  # noqa: F401, PLC0415

        from slipway_kit.tracing import export, request_spans  # noqa: F401, PLC0415


@asynccontextmanager
async def open_tracing(
    settings: TracingSettings,
    traces: Traces,
    *,
    service: Mapping[str, str],
    flush_seconds: float,
    untraced: Collection[str] = (),
) -> AsyncIterator[None]:
    """Record and export spans until the block ends, then flush for at most `flush_seconds`.

    `service` holds resource attributes, which the environment may override. Only one app of a
    process can have tracing. An error of the SDK is logged and stops no worker. `traces.spans` is
    set within the block; `untraced` paths get no spans.
    """
    if not settings.enabled:
        yield
        return
    # Not imported without tracing.
    from slipway_kit.tracing.export import SpanExport, rate_limited_logs  # noqa: PLC0415
    from slipway_kit.tracing.request_spans import RequestSpans, Sampling  # noqa: PLC0415

    with rate_limited_logs():
        try:
            export = SpanExport(service, provider_class=traces.provider_class)
        except Exception:
            log.exception("tracing is off: the OpenTelemetry SDK rejected its settings")
            yield
            return
        # Without it instrumentations use the outdated semantic conventions.
        os.environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "http,database")
        if "OTEL_PROPAGATORS" not in os.environ:
            # The default reads baggage too: 8 KiB of blanks in it block the event loop for 0.2 s
            # (measured), and clients' baggage would be sent on to other services.
            propagate.set_global_textmap(TRACE_CONTEXT)
        trace.set_tracer_provider(export.provider)
        sampling = Sampling(settings.traces_sampler, settings.traces_sampler_arg)
        traces.spans = RequestSpans(export.provider, sampling, untraced=untraced)
        try:
            yield
        finally:
            traces.spans = None
            await export.close(seconds=flush_seconds)


def trace_client(client: "httpx.AsyncClient") -> None:
    """Make a span for each attempt of `client` and propagate the trace, if tracing is open.

    A span has no query of its URL: any parameter may hold a secret.
    """
    if not recording():
        return
    from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor  # noqa: PLC0415

    HTTPXClientInstrumentor.instrument_client(client, request_hook=_without_query)


async def _without_query(span: trace.Span, request: Any) -> None:
    # The instrumentation hides a password.
    url = str(request.url.copy_with(query=None, username=None, password=None))
    # The second by the outdated conventions, if the environment asks for them.
    for name in {URL_FULL, "http.url"} & (getattr(span, "attributes", None) or {}).keys():
        span.set_attribute(name, url)


def recording() -> bool:
    """Whether tracing is open in this process."""
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
