"""The process's tracing, which can be set once, set for one test."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry import propagate, trace
from opentelemetry.instrumentation._semconv import _OpenTelemetrySemanticConventionStability
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.util._once import Once

_OPT_IN = "OTEL_SEMCONV_STABILITY_OPT_IN"
# A request as a server tells of it.
SCOPE: dict[str, Any] = {
    "type": "http",
    "method": "GET",
    "path": "/a",
    "query_string": b"",
    "scheme": "http",
    "http_version": "1.1",
    "server": ("10.0.0.7", 8000),
}


@contextmanager
def untouched_tracing() -> Iterator[None]:
    """Let the block open the process's traces, and forget it afterwards."""
    textmap, opted = propagate.get_global_textmap(), os.environ.get(_OPT_IN)
    try:
        yield
    finally:
        trace._TRACER_PROVIDER = None
        trace._TRACER_PROVIDER_SET_ONCE = Once()
        propagate.set_global_textmap(textmap)
        os.environ.pop(_OPT_IN, None)
        if opted is not None:
            os.environ[_OPT_IN] = opted
        _OpenTelemetrySemanticConventionStability._initialized = False


@contextmanager
def recorded_spans() -> Iterator[InMemorySpanExporter]:
    """Keep every span of the block in memory."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with untouched_tracing():
        trace.set_tracer_provider(provider)
        yield exporter
