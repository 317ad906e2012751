"""The factory of spans of one scope and kind; a fast path may replace it.

It imports nothing of the SDK, so a service without tracing does not either.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from opentelemetry import context
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanContext, SpanKind, TracerProvider

if TYPE_CHECKING:
    from slipway_kit.tracing.ids import PresetIds


class SpanFactory:
    """Starts SDK spans in the instrumentation scope `name`.

    Given ids are used with a provider that has `PresetIds`; any other provider makes its own.
    """

    def __init__(
        self, provider: TracerProvider, name: str, *, kind: SpanKind, schema_url: str | None = None
    ) -> None:
        self.kind = kind
        self.tracer = provider.get_tracer(name, schema_url=schema_url)
        ids = getattr(provider, "id_generator", None)
        self.ids: PresetIds | None = ids if hasattr(ids, "preset") else None

    def begin(
        self,
        name: str,
        own: SpanContext,
        *,
        base: Context,
        parent: SpanContext | None,
        attributes: dict[str, Any],
    ) -> Span:
        """Start a recorded span with the ids of `own`."""
        return self.start(name, own, base=base, parent=parent, attributes=attributes)

    def begin_here(self, name: str, attributes: Mapping[str, Any]) -> Span:
        """Start a child of the current span; without one, the sampler decides."""
        return self.tracer.start_span(name, context.get_current(), self.kind, attributes)

    def start(  # noqa: PLR0913 (the parts of a span)
        self,
        name: str,
        own: SpanContext,
        *,
        base: Context,
        parent: SpanContext | None,
        attributes: Mapping[str, Any],
        start_time: int | None = None,
    ) -> Span:
        """Start an SDK span with the ids of `own`; `start_time` is in ns since the epoch."""
        if self.ids is not None:
            self.ids.preset(trace_id=0 if parent else own.trace_id, span_id=own.span_id)
        return self.tracer.start_span(name, base, self.kind, attributes, start_time=start_time)
