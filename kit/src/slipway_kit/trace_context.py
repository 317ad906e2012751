"""Trace context between processes; it imports little, for the child processes of the pool."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

# Between our own processes; OTEL_PROPAGATORS applies to other services.
TRACE_CONTEXT = TraceContextTextMapPropagator()


def carrier() -> dict[str, str]:
    """Return the current trace context as headers, empty without a trace."""
    found: dict[str, str] = {}
    TRACE_CONTEXT.inject(found)
    return found


@contextmanager
def continued(carrier: Mapping[str, str]) -> Iterator[None]:
    """Continue the trace of `carrier` within the block."""
    token = context.attach(TRACE_CONTEXT.extract(carrier, context.get_current()))
    try:
        yield
    finally:
        context.detach(token)
