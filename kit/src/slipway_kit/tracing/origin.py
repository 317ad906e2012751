"""Where spans of one name and kind come from: the SDK, or what `service` puts in its place.

It imports nothing of the SDK, so that a service without traces does not either.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from opentelemetry import context
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanContext, SpanKind, TracerProvider

if TYPE_CHECKING:
    from slipway_kit.tracing.ids import HandedIds


class Origin:
    """Makes spans of the SDK, in the instrumentation scope `name`.

    The ids of a span that were decided about before can be handed only to a provider with
    `HandedIds`; any other one makes its own.
    """

    def __init__(
        self, provider: TracerProvider, name: str, *, kind: SpanKind, schema_url: str | None = None
    ) -> None:
        self.kind = kind
        self.tracer = provider.get_tracer(name, schema_url=schema_url)
        ids = getattr(provider, "id_generator", None)
        self.ids: HandedIds | None = ids if hasattr(ids, "hand") else None

    def begin(
        self,
        name: str,
        own: SpanContext,
        *,
        base: Context,
        parent: SpanContext | None,
        attributes: dict[str, Any],
    ) -> Span:
        """Begin a span that is recorded, whose ids are known already."""
        return self.start(name, own, base=base, parent=parent, attributes=attributes)

    def begin_here(self, name: str, attributes: Mapping[str, Any]) -> Span:
        """Begin a span below the current one; below none, the sampler decides."""
        return self.tracer.start_span(name, context.get_current(), self.kind, attributes)

    def start(  # noqa: PLR0913 (what a span begins with)
        self,
        name: str,
        own: SpanContext,
        *,
        base: Context,
        parent: SpanContext | None,
        attributes: Mapping[str, Any],
        start_time: int | None = None,
    ) -> Span:
        """Start a span of the SDK with the ids of `own`; `start_time` is in ns since 1970."""
        if self.ids is not None:
            self.ids.hand(trace_id=0 if parent else own.trace_id, span_id=own.span_id)
        return self.tracer.start_span(name, base, self.kind, attributes, start_time=start_time)
