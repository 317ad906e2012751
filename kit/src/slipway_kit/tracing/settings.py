"""Settings of tracing."""

from typing import Literal, Self

from pydantic import AnyHttpUrl, Field, TypeAdapter, ValidationError, model_validator
from pydantic_settings import SettingsConfigDict

from slipway_kit.config.group import Group

_PROTOCOL = "http/protobuf"
_WEB_ADDRESS = TypeAdapter(AnyHttpUrl)


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

    @property
    def enabled(self) -> bool:
        """Whether spans are recorded and exported."""
        endpoint = self.exporter_otlp_traces_endpoint or self.exporter_otlp_endpoint
        return bool(endpoint) and self.traces_exporter == "otlp" and not self.sdk_disabled

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.enabled:
            return self
        specific = self.exporter_otlp_traces_endpoint
        try:
            _WEB_ADDRESS.validate_python(specific or self.exporter_otlp_endpoint)
        except ValidationError:
            # The value is not shown: it may hold a password.
            variable = f"OTEL_EXPORTER_OTLP_{'TRACES_' if specific else ''}ENDPOINT"
            raise ValueError(f"{variable} is not a URL like http://collector:4318") from None
        protocol = self.exporter_otlp_traces_protocol or self.exporter_otlp_protocol
        if protocol != _PROTOCOL:
            raise ValueError(
                f"OTEL_EXPORTER_OTLP_PROTOCOL is {protocol!r}: only {_PROTOCOL} is supported,"
                " which collectors expect on port 4318"
            )
        return self
