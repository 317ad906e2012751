"""A trace that goes on in another process; it imports little, for processes that compute."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

# What another process is told of a trace, whatever OTEL_PROPAGATORS says to other services.
TRACE_CONTEXT = TraceContextTextMapPropagator()


def carrier() -> dict[str, str]:
    """Return the current trace as plain text for another process; empty when there is none."""
    found: dict[str, str] = {}
    TRACE_CONTEXT.inject(found)
    return found


@contextmanager
def continued(carrier: Mapping[str, str]) -> Iterator[None]:
    """Go on in the trace of `carrier`; log lines and spans made in the block belong to it."""
    token = context.attach(TRACE_CONTEXT.extract(carrier, context.get_current()))
    try:
        yield
    finally:
        context.detach(token)
