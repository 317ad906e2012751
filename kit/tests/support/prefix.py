"""A reverse proxy that serves a service below a prefix, which it strips."""

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_OF_ONE_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


@contextmanager
def stripping(prefix: str, port: int) -> Iterator[int]:
    """Forward requests below `prefix` to `port`; give the port of the proxy."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if not self.path.startswith(f"{prefix}/"):
                self.send_error(502, "outside of the prefix")
                return
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            service = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            path = self.path.removeprefix(prefix)
            service.request(self.command, path, body, dict(self.headers))
            answer = service.getresponse()
            content = answer.read()
            service.close()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in _OF_ONE_HOP:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET  # noqa: N815 (the names are the server's)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()
