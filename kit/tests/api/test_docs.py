"""The pages that show the API; tests/runtime/test_browser.py opens them in a browser."""

import re
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from app.main import create_app
from app.settings import Settings
from slipway_kit.config.server import ServerSettings
from slipway_kit.http.openapi import OpenAPISettings
from slipway_kit.runtime import runtime_of

PAGES = ["/docs", "/redoc"]
ASSETS = [
    "/docs/assets/favicon.png",
    "/docs/assets/redoc.standalone.js",
    "/docs/assets/swagger-ui-bundle.js",
    "/docs/assets/swagger-ui.css",
]


def client(
    server: dict[str, object] | None = None, openapi: OpenAPISettings | None = None
) -> TestClient:
    settings = Settings(
        server=ServerSettings.model_validate({"metrics_port": 0, **(server or {})}),
        openapi=openapi or OpenAPISettings(),
    )
    return TestClient(create_app(settings), raise_server_exceptions=False)


@pytest.fixture(scope="module")
def docs() -> Iterator[TestClient]:
    with client() as opened:
        yield opened


def directives(header: str) -> dict[str, list[str]]:
    rules = [rule.split() for rule in header.split("; ")]
    return {name: sources for name, *sources in rules}


@pytest.mark.parametrize("page", PAGES)
def test_a_page_names_files_of_this_service_alone(docs: TestClient, page: str) -> None:
    answer = docs.get(page)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "//" not in re.sub(r"<!--.*?-->", "", answer.text, flags=re.DOTALL)
    links = re.findall(r'(?:src|href)="([^"]+)"', answer.text)
    assert len(links) >= 2
    for link in links:
        # Relative: whatever prefix a proxy strips, the link keeps.
        assert f"/{link}" in ASSETS


@pytest.mark.parametrize("asset", ASSETS)
def test_the_files_of_the_pages_are_served_with_their_type(docs: TestClient, asset: str) -> None:
    answer = docs.get(asset)
    assert answer.status_code == 200
    assert len(answer.content) > 1000
    kinds = {"js": "text/javascript", "css": "text/css", "png": "image/png"}
    assert answer.headers["Content-Type"].startswith(kinds[asset.rpartition(".")[2]])
    assert answer.headers["Cache-Control"] == "public, max-age=3600"
    assert b"cdn.redoc.ly" not in answer.content


@pytest.mark.parametrize("name", ["none.js", "%00", "__init__.py", "..%2Fcore.py"])
def test_no_other_file_is_served(docs: TestClient, name: str) -> None:
    answer = docs.get(f"/docs/assets/{name}")
    assert answer.status_code == 404
    assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_a_policy_of_its_own_and_the_other_security_headers(
    docs: TestClient, page: str
) -> None:
    headers = docs.get(page).headers
    rules = directives(headers["Content-Security-Policy"])
    assert rules["default-src"] == ["'none'"]
    assert rules["frame-ancestors"] == ["'none'"]
    assert rules["connect-src"] == ["'self'"]
    assert rules["img-src"] == ["'self'", "data:"]
    assert "'unsafe-inline'" not in rules["script-src"]
    assert "'unsafe-eval'" not in rules["script-src"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"


def test_servers_and_logo_that_are_set_may_be_asked() -> None:
    settings = OpenAPISettings(
        servers=("https://api.example:8443/v1", "/here"), logo_url="https://pictures.example/a.png"
    )
    with client(openapi=settings) as opened:
        rules = directives(opened.get("/docs").headers["Content-Security-Policy"])
    assert rules["connect-src"] == ["'self'", "https://api.example:8443"]
    assert rules["img-src"] == ["'self'", "data:", "https://pictures.example"]


@pytest.mark.parametrize(
    ("server", "served"),
    [
        ({}, {"/openapi.json", *PAGES, *ASSETS}),
        ({"docs_swagger_enabled": False}, {"/openapi.json", "/redoc", *ASSETS}),
        ({"docs_redoc_enabled": False}, {"/openapi.json", "/docs", *ASSETS}),
        ({"docs_swagger_enabled": False, "docs_redoc_enabled": False}, {"/openapi.json"}),
        ({"docs_enabled": False}, set()),
        ({"app_env": "production"}, set()),
        ({"app_env": "production", "docs_enabled": True}, {"/openapi.json", *PAGES, *ASSETS}),
    ],
)
def test_what_is_switched_off_is_not_found(server: dict[str, object], served: set[str]) -> None:
    with client(server) as opened:
        for path in ("/openapi.json", *PAGES, *ASSETS):
            assert opened.get(path).status_code == (200 if path in served else 404), path


def test_a_name_with_markup_stays_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.about.NAME", "R&D <b>games</b>")
    with client() as opened:
        page = opened.get("/docs").text
    assert "<title>R&amp;D &lt;b&gt;games&lt;/b&gt; - Swagger UI</title>" in page


def test_pages_and_files_are_no_part_of_the_document(docs: TestClient) -> None:
    assert not [path for path in docs.get("/openapi.json").json()["paths"] if "doc" in path]


def test_all_files_of_the_pages_are_one_series_and_one_route(docs: TestClient) -> None:
    with capture_logs() as logged:
        for asset in (*ASSETS, "/docs/assets/none.js"):
            docs.get(asset)
    routes = {entry["route"] for entry in logged if entry["event"] == "request"}
    assert routes == {"/docs/assets/{name}"}
    assert isinstance(docs.app, FastAPI)
    series = runtime_of(docs.app).get(CollectorRegistry).collect()
    handlers = {
        sample.labels["handler"]
        for metric in series
        for sample in metric.samples
        if "/docs/" in sample.labels.get("handler", "")
    }
    assert handlers == {"/docs/assets/{name}"}


def test_the_start_page_leads_to_the_documentation_where_it_is_served(docs: TestClient) -> None:
    answer = docs.get("/", follow_redirects=False)
    assert (answer.status_code, answer.headers["Location"]) == (307, "docs")
    assert docs.get("/").url.path == "/docs"
    with client({"docs_swagger_enabled": False}) as one:
        assert one.get("/").url.path == "/redoc"
    with client({"root_path": "/shop"}) as below:
        answer = below.get("/", follow_redirects=False)
        assert answer.headers["Location"] == "/shop/docs"
    with client({"docs_enabled": False}) as none:
        assert none.get("/").status_code == 404
    assert docs.get("/nothing").status_code == 404


def test_a_start_page_of_the_service_comes_first() -> None:
    app = create_app(Settings(server=ServerSettings(metrics_port=0)))
    app.add_api_route("/", lambda: "mine")
    with TestClient(app) as own:
        assert own.get("/").json() == "mine"
