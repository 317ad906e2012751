"""What every answer carries, and what the border keeps out."""

from collections.abc import Iterator
from typing import cast

import pytest
from fastapi import APIRouter, FastAPI, Request, Response, WebSocket
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient
from pydantic import BaseModel
from structlog.testing import capture_logs

from app.main import create_app
from app.settings import Settings
from slipway_kit.config.server import ServerSettings

router = APIRouter(prefix="/edge")


class Body(BaseModel):
    text: str


@router.post("/bodies/{name}")
async def read(name: str, body: Body) -> int:
    return len(body.text)


@router.get("/plain")
def plain() -> str:
    return "from a thread"


@router.get("/broken")
async def broken() -> None:
    raise ZeroDivisionError("details that no client may read")


@router.head("/own")
async def own() -> Response:
    return Response(headers={"X-Own": "head"})


@router.get("/own")
@router.get("/with/slash/")
@router.get("/with/{name:path}/")
async def with_slash() -> str:
    return "found"


@router.get("/stream", response_class=StreamingResponse)
async def stream() -> StreamingResponse:
    return StreamingResponse(iter(["one", "two"]), media_type="text/plain")


@router.websocket("/sockets/{name}")
async def converse(name: str, socket: WebSocket) -> None:
    await socket.accept()
    await socket.receive()


def client(**server: object) -> TestClient:
    settings = Settings(server=ServerSettings.model_validate({"metrics_port": 0, **server}))
    app = create_app(settings)
    app.include_router(router)
    return TestClient(app, raise_server_exceptions=False)


@pytest.fixture(scope="module")
def edge() -> Iterator[TestClient]:
    with client(max_body_bytes=1000) as opened:
        yield opened


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/edge/plain", 200),
        ("/edge/stream", 200),
        ("/edge/broken", 500),
        ("/nowhere", 404),
        ("/health", 200),
        ("/edge/bodies/x", 405),
    ],
)
def test_every_answer_carries_its_id_its_time_and_the_security_headers(
    edge: TestClient, path: str, status: int
) -> None:
    answer = edge.get(path, headers={"X-Request-ID": "given-1"})
    assert answer.status_code == status
    assert answer.headers["X-Request-ID"] == "given-1"
    assert 0 < float(answer.headers["X-Processed-Time"]) < 10
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Security-Policy"] == "frame-ancestors 'none'"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert "Strict-Transport-Security" not in answer.headers
    if status >= 400:
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["request_id"] == "given-1"


def test_a_bug_tells_the_client_nothing_of_itself(edge: TestClient) -> None:
    answer = edge.get("/edge/broken")
    assert "details" not in answer.text
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    ("path", "route", "mode"),
    [
        ("/edge/plain", "/edge/plain", "thread pool"),
        ("/edge/stream", "/edge/stream", "event loop"),
        ("/nowhere", "unmatched", None),
    ],
)
def test_the_log_names_route_template_and_where_it_ran(
    edge: TestClient, path: str, route: str, mode: str | None
) -> None:
    with capture_logs() as logged:
        edge.get(path)
    (line,) = [entry for entry in logged if entry["event"] == "request"]
    assert (line["route"], line["mode"]) == (route, mode)


def test_the_route_in_the_log_is_a_template_not_a_path(edge: TestClient) -> None:
    with capture_logs() as logged:
        edge.post("/edge/bodies/secret-name", json={"text": "x"})
    assert logged[-1]["route"] == "/edge/bodies/{name}"
    assert "secret-name" not in str(logged)


def test_a_websocket_is_logged_with_its_template(edge: TestClient) -> None:
    with capture_logs() as logged, edge.websocket_connect("/edge/sockets/secret-name") as socket:
        socket.close()
    (line,) = [entry for entry in logged if entry["event"] == "request"]
    assert (line["route"], line["method"], line["status"]) == (
        "/edge/sockets/{name}",
        "WEBSOCKET",
        101,
    )


def test_a_body_over_the_limit_is_413_with_or_without_a_length(edge: TestClient) -> None:
    small, large = '{"text": "' + "x" * 900 + '"}', '{"text": "' + "x" * 2000 + '"}'
    assert edge.post("/edge/bodies/x", content=small, headers=JSON).status_code == 200
    answer = edge.post("/edge/bodies/x", content=large, headers=JSON)
    assert answer.status_code == 413
    assert answer.json()["title"] == "Content Too Large"
    chunked = edge.post("/edge/bodies/x", content=iter([large.encode()] * 3), headers=JSON)
    assert chunked.status_code == 413
    assert chunked.headers["Content-Type"] == "application/problem+json"
    assert edge.post("/edge/bodies/x", content=small, headers=JSON).status_code == 200


JSON = {"Content-Type": "application/json"}


def test_hsts_is_sent_when_set() -> None:
    with client(hsts_seconds=3600) as opened:
        sent = opened.get("/health").headers["Strict-Transport-Security"]
    assert sent == "max-age=3600; includeSubDomains"


def test_browsers_of_allowed_origins_alone_may_call() -> None:
    preflight = {"Access-Control-Request-Method": "POST"}
    with client(cors_origins=("https://shop.example",)) as opened:
        allowed = opened.options(
            "/edge/plain", headers={"Origin": "https://shop.example", **preflight}
        )
        refused = opened.options(
            "/edge/plain", headers={"Origin": "https://evil.example"} | preflight
        )
        called = opened.get("/edge/plain", headers={"Origin": "https://shop.example"})
    assert allowed.headers["Access-Control-Allow-Origin"] == "https://shop.example"
    assert refused.status_code == 400
    assert "Access-Control-Allow-Origin" not in refused.headers
    assert "X-Request-ID" in called.headers["Access-Control-Expose-Headers"]


def test_an_allowed_origin_may_read_a_500() -> None:
    with client(cors_origins=("https://shop.example",)) as opened:
        seen = opened.get("/edge/broken", headers={"Origin": "https://shop.example"})
        hidden = opened.get("/edge/broken", headers={"Origin": "https://evil.example"})
    assert seen.status_code == hidden.status_code == 500
    assert seen.headers["Access-Control-Allow-Origin"] == "https://shop.example"
    assert "Access-Control-Allow-Origin" not in hidden.headers


def test_an_allowed_origin_may_read_what_the_owners_handler_says() -> None:
    async def say(_: Request, error: Exception) -> Response:
        headers = {"Access-Control-Expose-Headers": "X-Own", "Vary": "Accept"}
        return Response(type(error).__name__, 418, headers)

    with client(cors_origins=("https://shop.example",)) as opened:
        cast("FastAPI", opened.app).add_exception_handler(Exception, say)
        seen = opened.get("/edge/broken", headers={"Origin": "https://shop.example"})
        hidden = opened.get("/edge/broken", headers={"Origin": "https://evil.example"})
    assert (seen.status_code, seen.text) == (hidden.status_code, hidden.text)
    assert seen.headers["Access-Control-Allow-Origin"] == "https://shop.example"
    assert seen.headers["Access-Control-Expose-Headers"] == "X-Own"
    assert seen.headers["Vary"] == "Accept, Origin"
    assert "Access-Control-Allow-Origin" not in hidden.headers


@pytest.mark.parametrize("path", ["/livez", "/health", "/edge/plain", "/edge/stream"])
def test_head_is_the_head_of_get(edge: TestClient, path: str) -> None:
    got, head = edge.get(path), edge.head(path)
    assert (head.status_code, head.content) == (200, b"")
    names = {"content-type", "content-length"}
    assert {name: head.headers.get(name) for name in names} == {
        name: got.headers.get(name) for name in names
    }
    with capture_logs() as lines:
        edge.head(path)
    assert [line["route"] for line in lines if line.get("method") == "HEAD"] in ([], [path])


def test_head_of_what_has_no_get_is_405_and_a_route_of_its_own_is_kept(edge: TestClient) -> None:
    assert edge.head("/edge/bodies/a").status_code == 405
    assert edge.head("/edge/own").headers["X-Own"] == "head"


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/edge/plain/", "../plain"),
        ("/edge/plain/?a=%20b&c", "../plain?a=%20b&c"),
        ("/edge/with/slash", "./slash/"),
        ("/edge/with/a%3Ab%2F%E2%82%AC", "./%E2%82%AC/"),
    ],
)
def test_a_redirect_of_slashes_names_no_host(edge: TestClient, path: str, location: str) -> None:
    answer = edge.get(path, headers={"Host": "evil.example"}, follow_redirects=False)
    assert (answer.status_code, answer.headers["Location"]) == (307, location)
    assert edge.get(path).status_code == 200


def test_without_origins_no_browser_may_call(edge: TestClient) -> None:
    answer = edge.get("/edge/plain", headers={"Origin": "https://shop.example"})
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_metrics_are_not_served_on_the_port_of_the_api(edge: TestClient) -> None:
    assert edge.get("/metrics").status_code == 404
