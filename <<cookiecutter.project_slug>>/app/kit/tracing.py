"""Traces: one span a request and one for each call that it makes, sent on by OTLP over HTTP.

The requests' spans are FastAPI's own. Without an endpoint nothing of the SDK is imported, and a
request does not ask for it.
"""

import os
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Literal, Self
from urllib.parse import urlsplit

import structlog
from fastapi.telemetry import TelemetryConfig
from opentelemetry import propagate, trace
from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict
from starlette.types import Scope

from .environment import Group
from .meters import Counter
from .trace_context import TRACE_CONTEXT

if TYPE_CHECKING:
    import httpx

    from .request_spans import RequestSpans

log = structlog.get_logger()
SPANS = Counter("otel_spans", "Spans by what became of them at the exporter.", ["outcome"])
_PROTOCOL = "http/protobuf"


class TracingSettings(Group):
    """Where traces go; the OpenTelemetry SDK reads its other standard variables itself."""

    model_config = SettingsConfigDict(env_prefix="OTEL_")
    # The SDK knows many more names.
    owned_prefixes = ()

    exporter_otlp_endpoint: str | None = Field(
        default=None, description="base URL of an OTLP collector, such as http://collector:4318"
    )
    exporter_otlp_traces_endpoint: str | None = Field(
        default=None, description="the whole URL for traces, which wins over the base"
    )
    exporter_otlp_protocol: str = Field(
        default=_PROTOCOL, description="http/protobuf is the only one spoken"
    )
    exporter_otlp_traces_protocol: str | None = Field(
        default=None, description="the same for traces alone"
    )
    # Other languages count milliseconds here.
    exporter_otlp_timeout: float = Field(
        default=10, gt=0, le=300, description="seconds that one export may take"
    )
    traces_exporter: Literal["otlp", "none"] = Field(
        default="otlp", description="none sends no traces"
    )
    sdk_disabled: bool = Field(default=False, description="no traces at all")
    service_name: str | None = Field(
        default=None, description="name of the service in traces; default: its slug"
    )
    traces_sampler: Literal[
        "always_on",
        "always_off",
        "traceidratio",
        "parentbased_always_on",
        "parentbased_always_off",
        "parentbased_traceidratio",
    ] = Field(default="parentbased_always_on", description="which traces are recorded")
    traces_sampler_arg: float = Field(
        default=1, ge=0, le=1, description="share of traces that a ratio sampler records"
    )
    bsp_max_queue_size: int = Field(
        default=2048, ge=1, le=65536, description="spans that wait to be sent, per worker"
    )
    bsp_max_export_batch_size: int = Field(
        default=512, ge=1, le=65536, description="spans sent at once, at most the queue"
    )
    bsp_schedule_delay: int = Field(
        default=5000, ge=1, le=60_000, description="milliseconds between two sendings"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.bsp_max_export_batch_size > self.bsp_max_queue_size:
            raise ValueError(
                "OTEL_BSP_MAX_EXPORT_BATCH_SIZE is larger than OTEL_BSP_MAX_QUEUE_SIZE; lower it"
            )
        if self.enabled:
            self._check_endpoint()
        return self

    def _check_endpoint(self) -> None:
        specific = self.exporter_otlp_traces_endpoint is not None
        variable = f"OTEL_EXPORTER_OTLP_{'TRACES_' if specific else ''}ENDPOINT"
        if not _is_web_address(self.exporter_otlp_traces_endpoint or self.exporter_otlp_endpoint):
            # The value is not shown: it may hold a password.
            raise ValueError(f"{variable} is no URL like http://collector:4318")
        if self.protocol != _PROTOCOL:
            raise ValueError(
                f"OTEL_EXPORTER_OTLP_PROTOCOL is {self.protocol!r}: only {_PROTOCOL} is spoken,"
                " which collectors expect on port 4318"
            )

    @property
    def enabled(self) -> bool:
        """Whether traces are made and sent."""
        endpoint = self.exporter_otlp_traces_endpoint or self.exporter_otlp_endpoint
        return bool(endpoint) and self.traces_exporter == "otlp" and not self.sdk_disabled

    @property
    def protocol(self) -> str:
        """What the collector is to be spoken to in."""
        return self.exporter_otlp_traces_protocol or self.exporter_otlp_protocol


class Traces:
    """What makes the spans of requests, while traces are open."""

    spans: "RequestSpans | None" = None


def telemetry(
    settings: TracingSettings, *, untraced: Collection[str], fast: bool
) -> TelemetryConfig:
    """Configure FastAPI's own spans: one for each request and WebSocket, none for some paths.

    On the short way (`fast`) `observe` makes these spans, and FastAPI none.
    """

    def is_untraced(scope: Scope) -> bool:
        path: str = scope["path"]
        return path.removeprefix(scope.get("root_path", "")) in untraced

    return {
        "tracing": settings.enabled and not fast,
        "metrics": False,
        "logs": False,
        "operation_spans": False,
        "auto_configure": False,
        "exclude": is_untraced,
    }


def load(settings: TracingSettings) -> None:
    """Import what traces need; without them it never is.

    To be called before workers are forked: each would take a tenth of a second for it.
    """
    if settings.enabled:
        import opentelemetry.instrumentation.httpx  # noqa: F401, PLC0415

        from . import span_bytes, span_export  # noqa: F401, PLC0415


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
    from .span_bytes import install  # noqa: PLC0415
    from .span_export import SpanExport, rare_lines  # noqa: PLC0415

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
            install()
            traces.spans = export.request_spans(untraced=untraced)
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


def _is_web_address(address: str | None) -> bool:
    try:
        parts = urlsplit(address or "")
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
