"""An id generator whose next ids can be set, because sampling is decided before the span starts."""

import threading

from opentelemetry.sdk.trace.id_generator import RandomIdGenerator


class PresetIds(RandomIdGenerator):
    """Random ids, except where this thread has preset the next ones."""

    def __init__(self) -> None:
        self._own = threading.local()

    def preset(self, *, trace_id: int = 0, span_id: int = 0) -> None:
        """Set the ids of the next trace and the next span of this thread; 0 means random."""
        self._own.trace_id, self._own.span_id = trace_id, span_id

    def generate_trace_id(self) -> int:
        """Return the preset id once, else a random one."""
        return self._take("trace_id") or super().generate_trace_id()

    def generate_span_id(self) -> int:
        """Return the preset id once, else a random one."""
        return self._take("span_id") or super().generate_span_id()

    def _take(self, name: str) -> int:
        handed: int = getattr(self._own, name, 0)
        setattr(self._own, name, 0)
        return handed
