"""A span to which little is added, at a fraction of the SDK's price.

The SDK keeps a span in objects that guard, bound and copy whatever may be added, though most spans
of requests and of statements have a few attributes and nothing else. A `LightSpan` keeps these
alone, and becomes a span of the SDK's as soon as somebody adds what it cannot keep: an event, a
link, an exception, a list. What is exported is the same. It stands for a span only where nothing
could tell them apart: `Fits` says whether a provider does no more with spans than to export them,
within usual limits.
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
from slipway_kit.tracing.origin import Origin
from slipway_kit.tracing.provider import Traces

_KNOWN = frozenset({"b0ef927c0198ca0b"})
# So many the SDK keeps of a span, unless the environment says otherwise.
_MOST_ATTRIBUTES = 128
_SIMPLE = frozenset({str, bool, int, float})
_UNSET, _ERROR = Status(StatusCode.UNSET), Status(StatusCode.ERROR)
# Processors that do nothing before a span has ended.
_IDLE = (SpanProcessor, BatchSpanProcessor, SimpleSpanProcessor)
# Two threads of a request may add something at once.
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
    """Tell whether the SDK does with a span what it did."""
    return guard.is_known(_parts, _KNOWN)


def enable(traces: Traces) -> None:
    """Have spans of `traces` made light, from the next time that they are opened."""
    traces.origin = LightOrigin


def disable(traces: Traces) -> None:
    """Have spans made by the SDK, from the next time that `traces` are opened."""
    traces.origin = Origin


class LightOrigin(Origin):
    """Makes light spans where they fit, else those of the SDK.

    Below a span of anybody else, or where a span that became whole would have another id, the SDK
    makes them.
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
        # Where light spans fit it is one of the SDK's.
        self.provider: Any = provider
        self.scope = InstrumentationScope(name, "", schema_url)
        self._fits = Fits(provider)

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
        light = LightSpan(self, name, own, base=base, parent=parent, attributes=attributes)
        return light if self._fits() else self.whole(light)

    def begin_here(self, name: str, attributes: Mapping[str, Any]) -> Span:
        """Begin a span below the current one; below none, the sampler decides."""
        base = context.get_current()
        parent = trace.get_current_span(base)
        if self.ids is None or not isinstance(parent, LightSpan):
            return self.tracer.start_span(name, base, self.kind, attributes)
        # Every sampler that can be set records what is below a recorded span of this process.
        above = parent.get_span_context()
        own = SpanContext(
            above.trace_id,
            self.ids.generate_span_id(),
            is_remote=False,
            trace_flags=above.trace_flags,
            trace_state=above.trace_state,
        )
        return self.begin(name, own, base=base, parent=above, attributes=dict(attributes))

    def whole(self, light: "LightSpan") -> Span:
        """Return a span of the SDK's with what a light one has."""
        return self.start(
            light.name_given,
            light.get_span_context(),
            base=light.base,
            parent=light.parent_given,
            attributes=light.attributes_given,
            start_time=light.started,
        )


class Fits:
    """Tells whether light spans may take the place of those of a provider, at this moment.

    The SDK has no public way to ask; one that keeps this elsewhere gets none.
    """

    def __init__(self, provider: trace.TracerProvider) -> None:
        self._provider: Any = provider
        # A processor that is added makes another tuple of them.
        self._processors: object = None
        self._known = False

    def __call__(self) -> bool:
        """Look at the processors and limits that it has now."""
        try:
            processors = self._provider._active_span_processor._span_processors  # noqa: SLF001
            if processors is not self._processors:
                limits = self._provider._span_limits  # noqa: SLF001 (see above)
                self._known = (
                    limits.max_span_attributes == _MOST_ATTRIBUTES
                    and limits.max_span_attribute_length is None
                    and all(_is_idle(type(each)) for each in processors)
                )
                self._processors = processors
        except AttributeError:
            return False
        return self._known


def _is_idle(kind: type[SpanProcessor]) -> bool:
    return all(
        getattr(kind, name) in {getattr(known, name) for known in _IDLE}
        for name in ("on_start", "_on_ending")
    )


class LightSpan(Span):
    """A span that is recorded; see above."""

    # What `db.statements` asks of a current span.
    recorded = True

    def __init__(  # noqa: PLR0913 (what a span begins with)
        self,
        origin: LightOrigin,
        name: str,
        own: SpanContext,
        *,
        base: Context,
        parent: SpanContext | None,
        attributes: dict[str, Any],
    ) -> None:
        self.started = time.time_ns()
        self.name_given, self.base, self.attributes_given = name, base, attributes
        self._origin, self._own, self.parent_given = origin, own, parent
        self._status = _UNSET
        self._whole: Span | ReadableSpan | None = None
        self._ended = False

    def get_span_context(self) -> SpanContext:
        """Return its ids."""
        return self._own

    def is_recording(self) -> bool:
        """Tell whether something may be added."""
        return not self._ended

    def update_name(self, name: str) -> None:
        """Have another name."""
        if self._whole is None:
            self.name_given = name
        else:
            self._sdk().update_name(name)

    def set_attribute(self, key: str, value: AnyValue) -> None:
        """Add an attribute, or put another value in its place."""
        self.set_attributes({key: value})

    def set_attributes(self, attributes: Mapping[str, AnyValue]) -> None:
        """Add several."""
        kept = self.attributes_given
        if (
            self._whole is None
            and len(kept) + len(attributes) <= _MOST_ATTRIBUTES
            and all(key and type(key) is str for key in attributes)
            and all(type(value) in _SIMPLE for value in attributes.values())
        ):
            kept.update(attributes)
        else:
            self._sdk().set_attributes(attributes)

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """Say how it went."""
        if self._whole is None and status is StatusCode.ERROR and description is None:
            self._status = _ERROR
        else:
            self._sdk().set_status(status, description)

    def add_event(self, *args: Any, **options: Any) -> None:
        """Add what happened at a moment."""
        self._sdk().add_event(*args, **options)

    def add_link(self, *args: Any, **options: Any) -> None:
        """Add another span that this one has to do with."""
        self._sdk().add_link(*args, **options)

    def record_exception(self, *args: Any, **options: Any) -> None:
        """Add an exception with its stack."""
        self._sdk().record_exception(*args, **options)

    def end(self, end_time: int | None = None) -> None:
        """Be over; nothing is added after that."""
        if self._ended:
            return
        self._ended = True
        if isinstance(self._whole, Span):
            self._whole.end(end_time)
            return
        origin = self._origin
        self._whole = ReadableSpan(
            self.name_given,
            self._own,
            self.parent_given,
            origin.provider.resource,
            self.attributes_given,
            kind=origin.kind,
            status=self._status,
            start_time=self.started,
            end_time=time.time_ns() if end_time is None else end_time,
            instrumentation_scope=origin.scope,
        )
        # There is one where light spans fit.
        origin.provider._active_span_processor.on_end(self._whole)  # noqa: SLF001

    def __getattr__(self, name: str) -> Any:
        """Return what a span of the SDK's tells of itself, such as its attributes."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._whole if self._ended else self._sdk(), name)

    def _sdk(self) -> Span:
        """Become a span of the SDK's."""
        with _lock:
            if self._whole is None:
                self._whole = made = self._origin.whole(self)
                made.set_status(self._status)
            whole = self._whole
        return whole if isinstance(whole, Span) else NonRecordingSpan(self._own)
