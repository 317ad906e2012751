"""The SDK's side of tracing: spans are queued, sent in batches, counted, and flushed at the end."""

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
from slipway_kit.tracing.ids import HandedIds
from slipway_kit.tracing.origin import Origin
from slipway_kit.tracing.request_spans import RequestSpans, Sampling
from slipway_kit.tracing.settings import TracingSettings

log = structlog.get_logger()
SPANS = Counter("otel_spans", "Spans by what became of them at the exporter.", ["outcome"])
# The SDK repeats itself with every batch and every malformed header.
_PAUSE_SECONDS = 60
_TALKATIVE = ("opentelemetry", "urllib3")
# Lines about what clients send: they show the headers, and anybody can cause them.
_ABOUT_CLIENTS = ("opentelemetry.baggage", "opentelemetry.trace.")
# The answer to an export says nothing that is used.
_ANSWER_BYTES = 4096
# Of the time to flush, what is kept to let go of spans that cannot be sent.
_GIVE_UP_SHARE = 0.1


class SpanExport:
    """The provider of one worker; made after the fork, because it starts a thread."""

    def __init__(
        self,
        settings: TracingSettings,
        *,
        service: Mapping[str, str],
        exporter: SpanExporter | None = None,
    ) -> None:
        self._exporter = CountedExporter(exporter or OTLPSpanExporter(session=OneWaySession()))
        self._sampling = Sampling(settings.traces_sampler, settings.traces_sampler_arg)
        self.provider = TracerProvider(
            resource=_resource(service), id_generator=HandedIds(), shutdown_on_exit=False
        )
        self._processor = CountedProcessor(
            self._exporter,
            max_queue_size=settings.bsp_max_queue_size,
            max_export_batch_size=settings.bsp_max_export_batch_size,
            schedule_delay_millis=settings.bsp_schedule_delay,
        )
        self.provider.add_span_processor(self._processor)

    def request_spans(self, *, untraced: Collection[str], origin: type[Origin]) -> RequestSpans:
        """Return what makes the spans of requests to all but some paths."""
        return RequestSpans(self.provider, self._sampling, untraced=untraced, origin=origin)

    async def close(self, *, seconds: float) -> None:
        """Send what is queued for at most `seconds`; log how many spans are lost.

        The SDK's own shutdown waits half a minute for a collector that does not answer, in a
        thread that would hold up the exit. This one is left behind.
        """
        loop, sent = asyncio.get_running_loop(), asyncio.Event()
        failed = self._exporter.failed

        def flush() -> None:
            self._processor.shutdown_within(seconds * (1 - _GIVE_UP_SHARE))
            with suppress(RuntimeError):  # the loop is closed: nobody waits
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
    """The SDK's bounded queue and its thread; a span that finds the queue full is counted."""

    def on_end(self, span: ReadableSpan) -> None:
        """Queue a span; when the queue is full the oldest one makes room."""
        sampled = span.context is not None and span.context.trace_flags.sampled
        if sampled and len(self._queue) == self._queue.maxlen:
            SPANS.labels("dropped").inc()
        super().on_end(span)

    def shutdown_within(self, seconds: float) -> None:
        """Send all that is queued, or as much as goes in the time."""
        # `shutdown` itself takes no time.
        self._batch_processor.shutdown(timeout_millis=int(seconds * 1000))

    def drop_queued(self) -> int:
        """Count what was never sent."""
        count = len(self._queue)
        SPANS.labels("dropped").inc(count)
        return count

    @property
    def _queue(self) -> Any:
        return self._batch_processor._queue  # noqa: SLF001 (the SDK does not tell how full it is)


class CountedExporter(SpanExporter):
    """Counts what becomes of each batch."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self.failed = 0
        self._sending = 0
        self._lock = threading.Lock()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send one batch; what fails is gone."""
        with self._lock:
            self._sending = len(spans)
        result = SpanExportResult.FAILURE
        try:
            result = self._exporter.export(spans)
        finally:
            self._settle(result)
        return result

    def give_up(self) -> int:
        """Count the batch that is being sent as failed, and return how many spans ever failed."""
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
        """Break off waiting between two attempts, and close the connection."""
        self._exporter.shutdown()


class OneWaySession(requests.Session):
    """Sends, and reads no more of an answer than a collector has to say.

    An endless body would be read into memory. A redirect is an error: the SDK takes it for success,
    though whoever sent it, a log-in page for one, has not stored the spans.
    """

    def request(self, *args: Any, **options: Any) -> requests.Response:
        """Send one request; the body of the answer is not kept."""
        response = super().request(*args, **{**options, "stream": True})
        with response:
            # Read to its end, a short answer leaves the connection open for the next export.
            response.raw.read1(_ANSWER_BYTES)
            if 300 <= response.status_code < 400:  # noqa: PLR2004 (redirects)
                raise requests.TooManyRedirects(f"the collector answers {response.status_code}")
            return response


class RareLines(logging.Handler):
    """Passes on the first line of each place in the code every minute, and counts the others."""

    def __init__(self, *, clock: Callable[[], float] = now) -> None:
        super().__init__()
        self._clock = clock
        self._passed: dict[tuple[str, int], tuple[float, int]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Pass the record to the root logger's handlers, or count it."""
        if record.name.startswith(_ABOUT_CLIENTS):
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
def rare_lines() -> Iterator[None]:
    """Let `RareLines` speak for the SDK within the block."""
    handler = RareLines()
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
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
    """Describe this worker; OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME win over `service`."""
    given = OTELResourceDetector().detect().attributes
    # The SDK adds a service.instance.id of its own for each process.
    return Resource.create({"host.name": socket.gethostname(), **service, **given})
