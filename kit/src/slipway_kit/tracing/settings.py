"""Settings of tracing."""

from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from slipway_kit.config.group import Group

_PROTOCOL = "http/protobuf"


class TracingSettings(Group):
    """Tracing; the OpenTelemetry SDK reads its other standard variables itself."""

    model_config = SettingsConfigDict(env_prefix="OTEL_")
    # The SDK reads many more OTEL_ variables.
    owned_prefixes = ()

    exporter_otlp_endpoint: str | None = Field(
        default=None, description="base URL of an OTLP collector, such as http://collector:4318"
    )
    exporter_otlp_traces_endpoint: str | None = Field(
        default=None, description="the full URL for traces; overrides the base URL"
    )
    exporter_otlp_protocol: str = Field(
        default=_PROTOCOL, description="http/protobuf is the only supported protocol"
    )
    exporter_otlp_traces_protocol: str | None = Field(
        default=None, description="the same for traces alone"
    )
    # Other SDKs read milliseconds here; the Python SDK reads seconds.
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
        default=2048, ge=1, le=65536, description="spans in the export queue, per worker"
    )
    bsp_max_export_batch_size: int = Field(
        default=512, ge=1, le=65536, description="spans of one export, at most the queue size"
    )
    bsp_schedule_delay: int = Field(
        default=5000, ge=1, le=60_000, description="milliseconds between two exports"
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
            raise ValueError(f"{variable} is not a URL like http://collector:4318")
        if self.protocol != _PROTOCOL:
            raise ValueError(
                f"OTEL_EXPORTER_OTLP_PROTOCOL is {self.protocol!r}: only {_PROTOCOL} is"
                " supported, which collectors expect on port 4318"
            )

    @property
    def enabled(self) -> bool:
        """Whether spans are recorded and exported."""
        endpoint = self.exporter_otlp_traces_endpoint or self.exporter_otlp_endpoint
        return bool(endpoint) and self.traces_exporter == "otlp" and not self.sdk_disabled

    @property
    def protocol(self) -> str:
        """The export protocol."""
        return self.exporter_otlp_traces_protocol or self.exporter_otlp_protocol


def _is_web_address(address: str | None) -> bool:
    try:
        parts = urlsplit(address or "")
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
