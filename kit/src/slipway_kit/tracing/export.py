"""Span export through the SDK: a bounded queue, batches, metrics, and a flush at shutdown."""

import asyncio
import logging
import socket
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import requests
import structlog
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from slipway_kit.clock import now
from slipway_kit.metrics.instruments import Counter
from slipway_kit.tracing.ids import PresetIds
from slipway_kit.tracing.request_spans import RequestSpans, Sampling
from slipway_kit.tracing.settings import TracingSettings
from slipway_kit.tracing.span_factory import SpanFactory

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
# Share of the flush time that is kept for dropping the spans that cannot be sent.
_GIVE_UP_SHARE = 0.1


class SpanExport:
    """The tracer provider of one worker; made after the fork, because it starts a thread."""

    def __init__(
        self,
        settings: TracingSettings,
        *,
        service: Mapping[str, str],
        exporter: SpanExporter | None = None,
    ) -> None:
        self._exporter = CountedExporter(exporter or OTLPSpanExporter(session=ExportSession()))
        self._sampling = Sampling(settings.traces_sampler, settings.traces_sampler_arg)
        self.provider = TracerProvider(
            resource=_resource(service), id_generator=PresetIds(), shutdown_on_exit=False
        )
        self._processor = CountedProcessor(
            self._exporter,
            max_queue_size=settings.bsp_max_queue_size,
            max_export_batch_size=settings.bsp_max_export_batch_size,
            schedule_delay_millis=settings.bsp_schedule_delay,
        )
        self.provider.add_span_processor(self._processor)

    def request_spans(
        self, *, untraced: Collection[str], span_factory: type[SpanFactory]
    ) -> RequestSpans:
        """Return the maker of request spans; `untraced` paths get none."""
        return RequestSpans(
            self.provider, self._sampling, untraced=untraced, span_factory=span_factory
        )

    async def close(self, *, seconds: float) -> None:
        """Flush the queue for at most `seconds`; log how many spans were lost.

        The SDK's own shutdown waits 30 s for a collector that does not answer. This one runs in a
        daemon thread, which does not delay the exit.
        """
        loop, sent = asyncio.get_running_loop(), asyncio.Event()
        failed = self._exporter.failed

        def flush() -> None:
            self._processor.shutdown_within(seconds * (1 - _GIVE_UP_SHARE))
            with suppress(RuntimeError):  # the loop is closed already
                loop.call_soon_threadsafe(sent.set)

        threading.Thread(target=flush, name="flush-spans", daemon=True).start()
        try:
            async with asyncio.timeout(seconds):
                await sent.wait()
        except TimeoutError:
            pass
        finally:
            lost = self._processor.drop_queued() + self._exporter.give_up() - failed
            if lost:
                log.warning("spans lost at shutdown", spans=lost, seconds=seconds)


class CountedProcessor(BatchSpanProcessor):
    """The SDK's bounded queue and export thread; counts the spans that a full queue drops."""

    def on_end(self, span: ReadableSpan) -> None:
        """Queue a span; a full queue drops its oldest one."""
        sampled = span.context is not None and span.context.trace_flags.sampled
        if sampled and len(self._queue) == self._queue.maxlen:
            SPANS.labels("dropped").inc()
        super().on_end(span)

    def shutdown_within(self, seconds: float) -> None:
        """Export the queue within `seconds`."""
        # The public `shutdown` has no timeout parameter.
        self._batch_processor.shutdown(timeout_millis=int(seconds * 1000))

    def drop_queued(self) -> int:
        """Count the queued spans as dropped, and return their number."""
        count = len(self._queue)
        SPANS.labels("dropped").inc(count)
        return count

    @property
    def _queue(self) -> Any:
        return self._batch_processor._queue  # noqa: SLF001 (the SDK has no public queue length)


class CountedExporter(SpanExporter):
    """Counts the spans of each batch by outcome."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self.failed = 0
        self._sending = 0
        self._lock = threading.Lock()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export one batch; a failed batch is lost."""
        with self._lock:
            self._sending = len(spans)
        result = SpanExportResult.FAILURE
        try:
            result = self._exporter.export(spans)
        finally:
            self._settle(result)
        return result

    def give_up(self) -> int:
        """Count the batch in flight as failed, and return the total of failed spans."""
        self._settle(SpanExportResult.FAILURE)
        return self.failed

    def _settle(self, result: SpanExportResult) -> None:
        with self._lock:
            count, self._sending = self._sending, 0
            if result is SpanExportResult.SUCCESS:
                SPANS.labels("exported").inc(count)
            else:
                self.failed += count
                SPANS.labels("failed").inc(count)

    def shutdown(self) -> None:
        """Stop waiting between attempts, and close the connection."""
        self._exporter.shutdown()


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
        self._passed: dict[tuple[str, int], tuple[float, int]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Pass the record to the root logger, or count it."""
        if record.name.startswith(_CLIENT_INPUT_LOGGERS):
            return
        place, now = (record.pathname, record.lineno), self._clock()
        at, kept = self._passed.get(place, (float("-inf"), 0))
        if now - at < _PAUSE_SECONDS:
            self._passed[place] = (at, kept + 1)
            return
        self._passed[place] = (now, 0)
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


def _resource(service: Mapping[str, str]) -> Resource:
    """Return the resource; OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME override `service`."""
    given = OTELResourceDetector().detect().attributes
    # The SDK adds a service.instance.id of its own for each process.
    return Resource.create({"host.name": socket.gethostname(), **service, **given})
