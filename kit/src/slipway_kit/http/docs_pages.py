"""Swagger UI and ReDoc with all their assets from this service, not from a CDN.

Links are relative, so that they work behind any prefix that a proxy strips.
"""

import hashlib
import html
import re
from base64 import b64encode
from importlib.resources import files
from mimetypes import guess_type
from urllib.parse import urlsplit

from fastapi import FastAPI
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from slipway_kit.config.server import ServerSettings
from slipway_kit.errors import NotFound
from slipway_kit.http.openapi import OpenAPISettings

_FOLDER = "docs/assets"
_FILES = {
    name: files("fastapi_offline") / "static" / name
    for name in ("favicon.png", "redoc.standalone.js", "swagger-ui-bundle.js", "swagger-ui.css")
}
# Not traced.
ASSETS = frozenset(f"/{_FOLDER}/{name}" for name in _FILES)
_BROWSERS_KEEP = {"Cache-Control": "public, max-age=3600"}
# ReDoc's footer loads a remote logo, and hides an image that does not load.
_REMOTE_LOGO, _NO_PICTURE = b"https://cdn.redoc.ly/redoc/logo-mini.svg", b"data:,"
_INLINE_SCRIPT = re.compile(rb"<script>(.*?)</script>", re.DOTALL)


def install(app: FastAPI, server: ServerSettings, settings: OpenAPISettings) -> None:
    """Add Swagger UI at /docs and ReDoc at /redoc, where enabled; / leads to the first."""
    title, pages = html.escape(app.title), dict[str, HTMLResponse]()
    if server.serves_docs and server.docs_swagger_enabled:
        pages["/docs"] = get_swagger_ui_html(
            openapi_url="openapi.json",
            title=f"{title} - Swagger UI",
            swagger_js_url=f"{_FOLDER}/swagger-ui-bundle.js",
            swagger_css_url=f"{_FOLDER}/swagger-ui.css",
            swagger_favicon_url=f"{_FOLDER}/favicon.png",
        )
    if server.serves_docs and server.docs_redoc_enabled:
        pages["/redoc"] = get_redoc_html(
            openapi_url="openapi.json",
            title=f"{title} - ReDoc",
            redoc_js_url=f"{_FOLDER}/redoc.standalone.js",
            redoc_favicon_url=f"{_FOLDER}/favicon.png",
            with_google_fonts=False,
        )
    for path, page in pages.items():
        _add_page(app, path, bytes(page.body), settings)
    if pages:
        # One route for all files, so that metrics have one series.
        app.add_api_route(f"/{_FOLDER}/{{name}}", _asset, include_in_schema=False)
        path = next(iter(pages))
        # Relative without a known prefix: / of a proxy that strips one ends with a slash.
        first = RedirectResponse(f"{server.root_path}{path}" if server.root_path else path[1:])
        app.router.default = _with_start(first, app.router.default)


def _with_start(start: ASGIApp, others: ASGIApp) -> ASGIApp:
    """Answer / with `start` where the service has no route for it."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        at_start = scope["type"] == "http" and scope["path"] == scope.get("root_path", "") + "/"
        await (start if at_start else others)(scope, receive, send)

    return answer


def _add_page(app: FastAPI, path: str, page: bytes, settings: OpenAPISettings) -> None:
    policy = {"Content-Security-Policy": _policy(page, settings)}

    async def show() -> Response:
        return HTMLResponse(page, headers=policy)

    app.add_api_route(path, show, include_in_schema=False)


def _policy(page: bytes, settings: OpenAPISettings) -> str:
    """Return the Content-Security-Policy: own assets, own inline scripts, the API's servers."""
    digests = [hashlib.sha256(script).digest() for script in _INLINE_SCRIPT.findall(page)]
    scripts = " ".join(f"'sha256-{b64encode(digest).decode()}'" for digest in digests)
    pictures, servers = _origins(settings.logo_url or ""), _origins(*settings.servers)
    # Both pages write styles while they run.
    return (
        f"default-src 'none'; script-src 'self' {scripts}; style-src 'self' 'unsafe-inline';"
        f" img-src 'self' data: {pictures}; font-src 'self' data:; connect-src 'self' {servers};"
        " worker-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _origins(*urls: str) -> str:
    found = [urlsplit(url) for url in urls]
    return " ".join(f"{url.scheme}://{url.netloc}" for url in found if url.netloc)


# A plain `def`, since it reads from the disk.
def _asset(name: str) -> Response:
    if name not in _FILES:
        raise NotFound("There is no such file.")
    content = _FILES[name].read_bytes().replace(_REMOTE_LOGO, _NO_PICTURE)
    return Response(content, media_type=guess_type(name)[0], headers=_BROWSERS_KEEP)
