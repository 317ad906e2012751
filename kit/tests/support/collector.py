"""An OTLP collector: it decodes what is sent, or misbehaves as it is told."""

import gzip
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2


@dataclass(frozen=True)
class Received:
    """One span as it came over the wire; ids are hexadecimal as in log lines."""

    name: str
    kind: str
    scope: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, Any]
    resource: dict[str, Any]
    failed: bool
    events: tuple[dict[str, Any], ...]


class Collector(ThreadingHTTPServer):
    """Answers as `mode` says: ok, slow, hang, garbage, endless, reset, a redirect or a status."""

    daemon_threads = True
    # Many exporters may knock at once.
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.mode = "ok"
        self.slow_seconds = 5.0
        self.posts = 0
        self.connections = 0
        self.headers: list[dict[str, str]] = []
        self.received: list[Received] = []
        self.ended = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def servers(self) -> list[Received]:
        """List the spans of requests."""
        return [span for span in self.received if span.kind == "SERVER"]

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: exporters that are killed break their connections off."""


class _Handler(BaseHTTPRequestHandler):
    server: Collector
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        self.server.connections += 1
        super().setup()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posts += 1
        self.server.headers.append(dict(self.headers))
        match self.server.mode:
            case "ok":
                self._accept(body)
            case "slow":
                self.server.ended.wait(self.server.slow_seconds)
                self._accept(body)
            case "hang":
                self.server.ended.wait()
            case "garbage":
                self.wfile.write(b"\x00\xff nonsense\r\n\r\n" * 50)
                self.close_connection = True
            case "endless":
                self._never_end()
            case "reset":
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.connection.close()
                self.close_connection = True
            case "redirect":
                self._answer(302, b"", Location="/log-in")
            case "redirect to nowhere":
                self._answer(302, b"")
            case status:
                self._answer(int(status), b"no")

    def _accept(self, body: bytes) -> None:
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.received.extend(_spans(ExportTraceServiceRequest.FromString(body)))
        self._answer(200, ExportTraceServiceResponse().SerializeToString())

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _never_end(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.close_connection = True
        with suppress(OSError):
            while not self.server.ended.is_set():
                self.wfile.write(b"x" * 65536)
                time.sleep(0.001)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (so it is called)
        """Say nothing."""


def _spans(request: ExportTraceServiceRequest) -> Iterator[Received]:
    for group in request.resource_spans:
        resource = _plain(group.resource.attributes)
        for scope in group.scope_spans:
            for span in scope.spans:
                yield Received(
                    name=span.name,
                    kind=trace_pb2.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
                    scope=scope.scope.name,
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    attributes=_plain(span.attributes),
                    resource=resource,
                    failed=span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
                    events=tuple(
                        {"name": event.name, **_plain(event.attributes)} for event in span.events
                    ),
                )


def _plain(attributes: Any) -> dict[str, Any]:
    pairs: list[KeyValue] = list(attributes)
    return {
        pair.key: getattr(pair.value, pair.value.WhichOneof("value") or "string_value")
        for pair in pairs
    }


@contextmanager
def open_collector() -> Iterator[Collector]:
    with Collector() as collector:
        thread = threading.Thread(target=collector.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield collector
        finally:
            collector.ended.set()
            collector.shutdown()
            thread.join()
