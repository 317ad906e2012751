"""A span with simple attributes only, at a fraction of the SDK's CPU cost.

The SDK locks, limits and copies whatever a span may hold, though most request and statement spans
have a few attributes and nothing else. A `LightSpan` holds only these; it becomes an SDK span when
an event, a link, an exception or a list is added. The exported data is the same. Light spans need a
provider with default limits whose processors only export: `LightSpanSupport` checks that.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode
from opentelemetry.util.types import AnyValue

from slipway_kit.fast import guard
from slipway_kit.tracing.provider import Traces
from slipway_kit.tracing.span_factory import SpanFactory

_KNOWN = frozenset({"b0ef927c0198ca0b"})
# The SDK's default limit of attributes.
_MAX_ATTRIBUTES = 128
_SIMPLE = frozenset({str, bool, int, float})
_UNSET, _ERROR = Status(StatusCode.UNSET), Status(StatusCode.ERROR)
# Processors that do nothing until a span has ended.
_PASSIVE_PROCESSORS = (SpanProcessor, BatchSpanProcessor, SimpleSpanProcessor)
# Two threads of a request may convert its span at once.
_lock = threading.Lock()


def _parts() -> Iterable[Callable[..., Any]]:
    span, provider, processors = sdk.Span, sdk.TracerProvider, sdk.SynchronousMultiSpanProcessor
    return [
        *(sdk.Tracer.start_span, provider.get_tracer, ReadableSpan.__init__),
        *(span.__init__, span.start, span.end, span.set_attributes, span.set_status),
        *(span.update_name, span._readable_span),  # noqa: SLF001 (see above)
        *(processors.on_start, processors.on_end, processors.add_span_processor),
        *(BatchSpanProcessor.on_start, BatchSpanProcessor.on_end),
    ]


def supported() -> bool:
    """Whether the source of the SDK's span code is known."""
    return guard.is_known(_parts, _KNOWN)


def enable(traces: Traces) -> None:
    """Use light spans, from the next time that `traces` are opened."""
    traces.span_factory = LightSpanFactory


def disable(traces: Traces) -> None:
    """Use SDK spans, from the next time that `traces` are opened."""
    traces.span_factory = SpanFactory


class LightSpanFactory(SpanFactory):
    """Makes light spans where they are supported, else SDK spans.

    A child of any other span is an SDK span, and so is a span whose id could not be preset.
    """

    def __init__(
        self,
        provider: trace.TracerProvider,
        name: str,
        *,
        kind: SpanKind,
        schema_url: str | None = None,
    ) -> None:
        super().__init__(provider, name, kind=kind, schema_url=schema_url)
        # The SDK's provider, where light spans are supported.
        self.provider: Any = provider
        self.scope = InstrumentationScope(name, "", schema_url)
        self._supported = LightSpanSupport(provider)

    def begin(
        self,
        name: str,
        own: SpanContext,
        *,
        base: Context,
        parent: SpanContext | None,
        attributes: dict[str, Any],
    ) -> Span:
        """Start a recorded span with the given ids."""
        light = LightSpan(self, name, own, base=base, parent=parent, attributes=attributes)
        return light if self._supported() else self.to_sdk_span(light)

    def begin_here(self, name: str, attributes: Mapping[str, Any]) -> Span:
        """Start a child of the current span; without one, the sampler decides."""
        base = context.get_current()
        parent = trace.get_current_span(base)
        if self.ids is None or not isinstance(parent, LightSpan):
            return self.tracer.start_span(name, base, self.kind, attributes)
        # Every configurable sampler records the child of a recorded local span.
        above = parent.get_span_context()
        own = SpanContext(
            above.trace_id,
            self.ids.generate_span_id(),
            is_remote=False,
            trace_flags=above.trace_flags,
            trace_state=above.trace_state,
        )
        return self.begin(name, own, base=base, parent=above, attributes=dict(attributes))

    def to_sdk_span(self, light: "LightSpan") -> Span:
        """Return an SDK span with the data of a light one."""
        return self.start(
            light.name_given,
            light.get_span_context(),
            base=light.base,
            parent=light.parent_given,
            attributes=light.attributes_given,
            start_time=light.started,
        )


class LightSpanSupport:
    """Whether light spans can replace the SDK spans of a provider; the answer may change.

    It reads private attributes of the SDK; when these are missing, the answer is no.
    """

    def __init__(self, provider: trace.TracerProvider) -> None:
        self._provider: Any = provider
        # Adding a processor replaces this tuple.
        self._processors: object = None
        self._known = False

    def __call__(self) -> bool:
        """Check the current processors and limits."""
        try:
            processors = self._provider._active_span_processor._span_processors  # noqa: SLF001
            if processors is not self._processors:
                limits = self._provider._span_limits  # noqa: SLF001 (see above)
                self._known = (
                    limits.max_span_attributes == _MAX_ATTRIBUTES
                    and limits.max_span_attribute_length is None
                    and all(_ignores_starts(type(each)) for each in processors)
                )
                self._processors = processors
        except AttributeError:
            return False
        return self._known


def _ignores_starts(kind: type[SpanProcessor]) -> bool:
    return all(
        getattr(kind, name) in {getattr(known, name) for known in _PASSIVE_PROCESSORS}
        for name in ("on_start", "_on_ending")
    )


class LightSpan(Span):
    """A recorded span; see the module."""

    # `db.statements` reads this from the current span.
    recorded = True

    def __init__(  # noqa: PLR0913 (what a span begins with)
        self,
        span_factory: LightSpanFactory,
        name: str,
        own: SpanContext,
        *,
        base: Context,
        parent: SpanContext | None,
        attributes: dict[str, Any],
    ) -> None:
        self.started = time.time_ns()
        self.name_given, self.base, self.attributes_given = name, base, attributes
        self._factory, self._own, self.parent_given = span_factory, own, parent
        self._status = _UNSET
        self._sdk_span: Span | ReadableSpan | None = None
        self._ended = False

    def get_span_context(self) -> SpanContext:
        """Return its ids."""
        return self._own

    def is_recording(self) -> bool:
        """Whether the span has not ended."""
        return not self._ended

    def update_name(self, name: str) -> None:
        """Set the name."""
        if self._sdk_span is None:
            self.name_given = name
        else:
            self._to_sdk_span().update_name(name)

    def set_attribute(self, key: str, value: AnyValue) -> None:
        """Set an attribute."""
        self.set_attributes({key: value})

    def set_attributes(self, attributes: Mapping[str, AnyValue]) -> None:
        """Set several attributes."""
        kept = self.attributes_given
        if (
            self._sdk_span is None
            and len(kept) + len(attributes) <= _MAX_ATTRIBUTES
            and all(key and type(key) is str for key in attributes)
            and all(type(value) in _SIMPLE for value in attributes.values())
        ):
            kept.update(attributes)
        else:
            self._to_sdk_span().set_attributes(attributes)

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """Set the status."""
        if self._sdk_span is None and status is StatusCode.ERROR and description is None:
            self._status = _ERROR
        else:
            self._to_sdk_span().set_status(status, description)

    def add_event(self, *args: Any, **options: Any) -> None:
        """Add an event."""
        self._to_sdk_span().add_event(*args, **options)

    def add_link(self, *args: Any, **options: Any) -> None:
        """Add a link to another span."""
        self._to_sdk_span().add_link(*args, **options)

    def record_exception(self, *args: Any, **options: Any) -> None:
        """Add an exception event."""
        self._to_sdk_span().record_exception(*args, **options)

    def end(self, end_time: int | None = None) -> None:
        """End the span; later changes are ignored."""
        if self._ended:
            return
        self._ended = True
        if isinstance(self._sdk_span, Span):
            self._sdk_span.end(end_time)
            return
        span_factory = self._factory
        self._sdk_span = ReadableSpan(
            self.name_given,
            self._own,
            self.parent_given,
            span_factory.provider.resource,
            self.attributes_given,
            kind=span_factory.kind,
            status=self._status,
            start_time=self.started,
            end_time=time.time_ns() if end_time is None else end_time,
            instrumentation_scope=span_factory.scope,
        )
        # Present where light spans are supported.
        span_factory.provider._active_span_processor.on_end(self._sdk_span)  # noqa: SLF001

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the SDK span, such as `attributes`."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._sdk_span if self._ended else self._to_sdk_span(), name)

    def _to_sdk_span(self) -> Span:
        """Convert to an SDK span."""
        with _lock:
            if self._sdk_span is None:
                self._sdk_span = made = self._factory.to_sdk_span(self)
                made.set_status(self._status)
            whole = self._sdk_span
        return whole if isinstance(whole, Span) else NonRecordingSpan(self._own)
