"""A WSGI application: `gunicorn wsgi_hello:application`."""

from collections.abc import Callable, Iterable
from typing import Any


def application(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Answer one request; the worker serves no other one until this returns."""
    body = f"Hello, {environ['PATH_INFO']}!".encode()
    start_response("200 OK", [("content-type", "text/plain"), ("content-length", str(len(body)))])
    return [body]
