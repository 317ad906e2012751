"""Ids of spans that were decided about before the SDK makes them."""

import threading

from opentelemetry.sdk.trace.id_generator import RandomIdGenerator


class HandedIds(RandomIdGenerator):
    """The SDK's random ids, and those that this thread has decided about already."""

    def __init__(self) -> None:
        self._own = threading.local()

    def hand(self, *, trace_id: int = 0, span_id: int = 0) -> None:
        """Give the next trace, and the next span, that this thread begins these ids."""
        self._own.trace_id, self._own.span_id = trace_id, span_id

    def generate_trace_id(self) -> int:
        """Return the id that was handed over, once, or a random one."""
        return self._handed("trace_id") or super().generate_trace_id()

    def generate_span_id(self) -> int:
        """Return the id that was handed over, once, or a random one."""
        return self._handed("span_id") or super().generate_span_id()

    def _handed(self, name: str) -> int:
        handed: int = getattr(self._own, name, 0)
        setattr(self._own, name, 0)
        return handed
