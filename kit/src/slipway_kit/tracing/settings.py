"""Settings of tracing."""

from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from slipway_kit.config.group import Group


class TracingSettings(Group):
    """Tracing; the OpenTelemetry SDK reads its other standard variables itself.

    `slipway_kit.otel_variables` has put wrong values right.
    """

    model_config = SettingsConfigDict(env_prefix="OTEL_")
    # The SDK reads many more OTEL_ variables.
    owned_prefixes = ()

    exporter_otlp_endpoint: str | None = Field(
        default=None, description="base URL of an OTLP collector, such as http://collector:4318"
    )
    exporter_otlp_traces_endpoint: str | None = Field(
        default=None, description="the full URL for traces; overrides the base URL"
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
