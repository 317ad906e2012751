"""A span with simple attributes only, at a fraction of the SDK's CPU cost.

The SDK locks, limits and copies whatever a span may hold, though most request and statement spans
have a few attributes and nothing else. A `LightSpan` holds only these; it becomes an SDK span when
an event, a link, an exception or a list is added. The exported data is the same.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context, get_current
from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.trace import Span, SpanContext, SpanKind, Status, StatusCode, Tracer
from opentelemetry.util.types import AnyValue, Attributes

from slipway_kit.fast.guard import FastPath
from slipway_kit.tracing.provider import Traces

_OUR_SCOPES = "slipway_kit."
# The SDK's default limit of attributes.
_MAX_ATTRIBUTES = 128
_SIMPLE = frozenset({str, bool, int, float})
_UNSET, _ERROR = Status(StatusCode.UNSET), Status(StatusCode.ERROR)
_PASSIVE_PROCESSORS = (SpanProcessor, BatchSpanProcessor, SimpleSpanProcessor)
# Two threads of a request may convert its span at once.
_lock = threading.Lock()


def _parts() -> Iterable[Callable[..., Any]]:
    span, provider, processors = sdk.Span, sdk.TracerProvider, sdk.SynchronousMultiSpanProcessor
    return [
        *(sdk.Tracer.__init__, sdk.Tracer.start_span, provider.get_tracer, ReadableSpan.__init__),
        *(span.__init__, span.start, span.end, span.set_attributes, span.set_status),
        *(span.update_name, span._readable_span),
        *(processors.on_start, processors.on_end, processors.add_span_processor),
        *(BatchSpanProcessor.on_start, BatchSpanProcessor.on_end),
    ]


_path = FastPath(_parts, "ce4549b746a6edfd")
supported, disable = _path.supported, _path.disable


def enable(traces: Traces) -> None:
    """Use light spans, from the next time that `traces` are opened."""
    _path.replace(traces, "provider_class", LightProvider)


class LightProvider(sdk.TracerProvider):
    """A provider whose tracers for this library make light spans.

    It needs the default limits, and processors that do nothing until a span has ended.
    """

    _allowed = True

    def get_tracer(self, instrumenting_module_name: str, *args: Any, **options: Any) -> Tracer:
        """Return the tracer of a scope."""
        tracer = super().get_tracer(instrumenting_module_name, *args, **options)
        limits = self._span_limits
        if (
            self._allowed
            and instrumenting_module_name.startswith(_OUR_SCOPES)
            and type(tracer) is sdk.Tracer
            and limits.max_span_attributes == _MAX_ATTRIBUTES
            and limits.max_span_attribute_length is None
        ):
            # The provider keeps its tracers and updates them.
            tracer.__class__ = LightTracer
        return tracer

    def add_span_processor(self, span_processor: SpanProcessor) -> None:
        """Add a processor; one that looks at spans when they start gets SDK spans."""
        super().add_span_processor(span_processor)
        if not _ignores_starts(type(span_processor)):
            self._allowed = False
            for tracer in self._tracers.values():
                tracer.__class__ = sdk.Tracer


def _ignores_starts(kind: type[SpanProcessor]) -> bool:
    return all(
        getattr(kind, name) in {getattr(known, name) for known in _PASSIVE_PROCESSORS}
        for name in ("on_start", "_on_ending")
    )


class LightTracer(sdk.Tracer):
    """Makes a light span of a request, whose ids are preset, and of the child of a light span."""

    def start_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        *args: Any,
        **options: Any,
    ) -> Span:
        """Start a span."""
        ids: Any = self.id_generator
        own: SpanContext | None = ids.preset
        base = get_current() if context is None else context
        above = trace.get_current_span(base)
        if args or options or (own is None and not isinstance(above, LightSpan)):
            return super().start_span(name, base, kind, attributes, *args, **options)
        parent = above.get_span_context()
        if own is None:
            # Every configurable sampler records the child of a recorded local span.
            flags, state = parent.trace_flags, parent.trace_state
            span_id = ids.generate_span_id()
            own = SpanContext(parent.trace_id, span_id, False, flags, state)
        ids.preset = None
        remembered = parent if parent.is_valid else None
        return LightSpan(self, name, own, kind, base, remembered, dict(attributes or {}))


@dataclass(eq=False, repr=False)
class LightSpan(Span):
    """A recorded span; see the module."""

    _tracer: LightTracer
    _name: str
    _own: SpanContext
    _kind: SpanKind
    _base: Context
    _parent: SpanContext | None
    _attributes: dict[str, Any]
    _status: Status = _UNSET
    _sdk_span: Span | ReadableSpan | None = None
    _ended: bool = False
    started: int = field(default_factory=time.time_ns)

    # `db.statements` reads this from the current span.
    recorded = True

    def get_span_context(self) -> SpanContext:
        """Return its ids."""
        return self._own

    def is_recording(self) -> bool:
        """Whether the span has not ended."""
        return not self._ended

    def update_name(self, name: str) -> None:
        """Set the name."""
        if self._sdk_span is None:
            self._name = name
        else:
            self._to_sdk_span().update_name(name)

    def set_attribute(self, key: str, value: AnyValue) -> None:
        """Set an attribute."""
        self.set_attributes({key: value})

    def set_attributes(self, attributes: Mapping[str, AnyValue]) -> None:
        """Set several attributes."""
        kept = self._attributes
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
        tracer = self._tracer
        self._sdk_span = ReadableSpan(
            self._name,
            self._own,
            self._parent,
            tracer.resource,
            self._attributes,
            kind=self._kind,
            status=self._status,
            start_time=self.started,
            end_time=time.time_ns() if end_time is None else end_time,
            instrumentation_scope=tracer._instrumentation_scope,
        )
        tracer.span_processor.on_end(self._sdk_span)

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the SDK span, such as `attributes`."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._sdk_span if self._ended else self._to_sdk_span(), name)

    def _to_sdk_span(self) -> Span:
        with _lock:
            if self._sdk_span is None:
                tracer: Any = self._tracer
                tracer.id_generator.preset = self._own
                self._sdk_span = whole = tracer.start_span(
                    self._name, self._base, self._kind, self._attributes, start_time=self.started
                )
                whole.set_status(self._status)
            found = self._sdk_span
        return found if isinstance(found, Span) else trace.NonRecordingSpan(self._own)
