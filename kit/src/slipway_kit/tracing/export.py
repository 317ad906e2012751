"""Span export through the SDK: a bounded queue, batches, metrics, and a flush at shutdown."""

import asyncio
import logging
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import requests
import structlog
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from slipway_kit.clock import now
from slipway_kit.metrics.instruments import Counter
from slipway_kit.tracing.request_spans import PresetIds

log = structlog.get_logger()
SPANS = Counter(
    "otel_spans", "Spans by outcome: exported, failed or dropped (queue full).", ["outcome"]
)
# The SDK logs the same line for every failed batch and every malformed header.
_PAUSE_SECONDS = 60
_NOISY_LOGGERS = ("opentelemetry", "urllib3")
# Lines about request headers, which they show; any client can cause them.
_CLIENT_INPUT_LOGGERS = ("opentelemetry.baggage", "opentelemetry.trace.")
# Bytes read of the response to an export; its content is not used.
_ANSWER_BYTES = 4096


class CountedProcessor(BatchSpanProcessor):
    """The SDK's bounded queue and export thread; counts the spans that a full queue drops."""

    def on_end(self, span: ReadableSpan) -> None:
        """Queue a span; a full queue drops its oldest one."""
        sampled = span.context is not None and span.context.trace_flags.sampled
        if sampled and len(self.queue) == self.queue.maxlen:
            SPANS.labels("dropped").inc()
        super().on_end(span)

    def shutdown_within(self, seconds: float) -> None:
        """Export the queue within `seconds`; the public `shutdown` has no timeout parameter."""
        self._batch_processor.shutdown(timeout_millis=int(seconds * 1000))

    @property
    def queue(self) -> Any:
        """The spans that wait to be exported."""
        return self._batch_processor._queue  # noqa: SLF001 (the SDK has no public queue length)


class SpanExport(SpanExporter):
    """The tracer provider of one worker and its exporter; counts the spans by outcome.

    It is made after the fork, because it starts a thread. OTEL_RESOURCE_ATTRIBUTES and
    OTEL_SERVICE_NAME override `service`.
    """

    def __init__(
        self,
        service: Mapping[str, str],
        *,
        provider_class: type[TracerProvider] | None = None,
        exporter: SpanExporter | None = None,
    ) -> None:
        given = OTELResourceDetector().detect().attributes
        self.provider = (provider_class or TracerProvider)(
            # The SDK adds a service.instance.id of its own for each process.
            resource=Resource.create({"host.name": socket.gethostname(), **service, **given}),
            id_generator=PresetIds(),
            shutdown_on_exit=False,
        )
        self._exporter = exporter or OTLPSpanExporter(session=ExportSession())
        self._sending = self._failed = 0
        self._lock = threading.Lock()
        self._processor = CountedProcessor(self)
        self.provider.add_span_processor(self._processor)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export one batch; a failed batch is lost."""
        self._sending = len(spans)
        result = SpanExportResult.FAILURE
        try:
            result = self._exporter.export(spans)
        finally:
            self._settle(exported=result is SpanExportResult.SUCCESS)
        return result

    def shutdown(self) -> None:
        """Stop waiting between attempts, and close the connection."""
        self._exporter.shutdown()

    async def close(self, *, seconds: float) -> None:
        """Flush the queue for at most `seconds`; log how many spans were lost.

        The SDK's own shutdown waits 30 s for a collector that does not answer.
        """
        failed = self._failed
        try:
            await asyncio.to_thread(self._processor.shutdown_within, seconds)
        finally:
            # A batch in flight is given up.
            self._settle(exported=False)
            queued = len(self._processor.queue)
            SPANS.labels("dropped").inc(queued)
            if lost := queued + self._failed - failed:
                log.warning("spans lost at shutdown", spans=lost, seconds=seconds)

    def _settle(self, *, exported: bool) -> None:
        """Count the batch in flight, if there is one."""
        with self._lock:
            count, self._sending = self._sending, 0
            self._failed += 0 if exported else count
        SPANS.labels("exported" if exported else "failed").inc(count)


class ExportSession(requests.Session):
    """Reads a limited part of each response, and treats a redirect as an error.

    The SDK would read an endless body into memory, and takes a redirect, such as one to a login
    page, for success.
    """

    def request(self, *args: Any, **options: Any) -> requests.Response:
        """Send one request; the body of the response is dropped."""
        response = super().request(*args, **{**options, "stream": True})
        with response:
            # Reading a short response to its end keeps the connection alive.
            response.raw.read1(_ANSWER_BYTES)
            if 300 <= response.status_code < 400:  # noqa: PLR2004 (redirects)
                raise requests.TooManyRedirects(f"the collector answers {response.status_code}")
            return response


class RateLimitedLogs(logging.Handler):
    """Passes one line a minute for each source line that logs, and counts the others."""

    def __init__(self, *, clock: Callable[[], float] = now) -> None:
        super().__init__()
        self._clock = clock
        # By source line: the next time that it is passed, and the lines left out until then.
        self._due: dict[tuple[str, int], tuple[float, int]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Pass the record to the root logger, or count it."""
        if record.name.startswith(_CLIENT_INPUT_LOGGERS):
            return
        place, now = (record.pathname, record.lineno), self._clock()
        due, kept = self._due.get(place, (now, 0))
        if now < due:
            self._due[place] = (due, kept + 1)
            return
        self._due[place] = (now + _PAUSE_SECONDS, 0)
        if kept:
            record.msg, record.args = f"{record.getMessage()} ({kept} more were not logged)", None
        logging.getLogger().handle(record)


@contextmanager
def rate_limited_logs() -> Iterator[None]:
    """Rate-limit the log lines of the SDK within the block."""
    handler = RateLimitedLogs()
    loggers = [logging.getLogger(name) for name in _NOISY_LOGGERS]
    for logger in loggers:
        logger.addHandler(handler)
        logger.propagate = False
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
            logger.propagate = True
