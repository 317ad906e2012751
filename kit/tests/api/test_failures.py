"""Whose fault a failure is: answer, metrics, log line and id agree about it."""

import asyncio
import traceback
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from fastapi import APIRouter, FastAPI, Request, Response, UploadFile, WebSocket
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.testing import capture_logs

from app.main import create_app
from app.settings import Settings
from slipway_kit.config.server import ServerSettings
from slipway_kit.errors import DeadlineExceeded
from slipway_kit.runtime import runtime_of

router = APIRouter(prefix="/failures")


class Exit(BaseException):
    """What a library may raise past every `except Exception`."""


@router.post("/json")
async def take_json(body: dict[str, int]) -> None:
    del body


@router.post("/file")
async def take_file(file: UploadFile) -> None:
    del file


@router.post("/stream")
async def take_stream(request: Request) -> None:
    async for _ in request.stream():
        pass


@router.post("/swallowed")
async def take_and_swallow(request: Request) -> int:
    try:
        return len(await request.body())
    except ClientDisconnect:
        return -1


@router.get("/cancelled")
async def cancelled() -> None:
    task = asyncio.create_task(asyncio.sleep(60))
    task.cancel()
    await task


@router.get("/exit")
async def leave() -> None:
    raise Exit


@router.get("/thread-exit")
def leave_thread() -> None:
    raise SystemExit(3)


@router.get("/silent", response_class=Response)
async def silent() -> ASGIApp:
    class Silent(Response):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            pass

    return Silent()


@router.get("/bug")
async def bug() -> None:
    raise ZeroDivisionError


@router.get("/unfit")
async def unfit() -> int:
    stored: Any = "hunter2"
    return cast("int", stored)


@router.get("/late")
async def late(seconds: float) -> None:
    await asyncio.sleep(seconds)
    raise DeadlineExceeded("An inner deadline passed.")


@router.websocket("/lost")
async def lose(socket: WebSocket) -> None:
    await socket.accept()
    await socket.receive_text()


@router.websocket("/bug")
async def fail(socket: WebSocket) -> None:
    raise ZeroDivisionError


def service() -> FastAPI:
    app = create_app(Settings(server=ServerSettings(metrics_port=0, request_timeout_seconds=5)))
    app.include_router(router)
    return app


class Asked:
    """One app, and what each request leaves in its log and its metrics."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app
        self.client = TestClient(app, raise_server_exceptions=False)
        self.events: list[str] = []
        self.status = 0

    def get(self, path: str, **headers: str) -> Any:
        return self.watched(lambda: self.client.get(f"/failures{path}", headers=headers))

    def watched(self, ask: Callable[[], Any]) -> Any:
        with capture_logs() as logged:
            answer = ask()
        lines = [line for line in logged if line["event"] == "request"]
        (self.status,) = [line["status"] for line in lines]
        self.events = [line["event"] for line in logged if line["log_level"] != "info"]
        return answer

    def counted(self, status: str, path: str) -> float:
        labels = {"method": "POST", "handler": f"/failures{path}", "status": status}
        registry = runtime_of(self.app).get(CollectorRegistry)
        return registry.get_sample_value("http_requests_total", labels) or 0


@pytest.fixture
def asked() -> Asked:
    return Asked(service())


@pytest.mark.parametrize("path", ["/json", "/file", "/stream", "/swallowed"])
def test_a_client_that_leaves_amid_its_body_is_neither_a_bug_nor_an_answer(
    asked: Asked, path: str
) -> None:
    parts: Iterator[Message] = iter(
        [
            {"type": "http.request", "body": b"--b\r\nContent-Disp", "more_body": True},
            {"type": "http.disconnect"},
        ]
    )

    async def receive() -> Message:
        return next(parts)

    async def send(message: Message) -> None:
        """Drop it, as a server does when nobody is there."""

    kind = "multipart/form-data; boundary=b" if path == "/file" else "application/json"
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": f"/failures{path}",
        "query_string": b"",
        "headers": [(b"content-type", kind.encode()), (b"content-length", b"100")],
    }
    asked.watched(lambda: asyncio.run(asked.app(scope, receive, send)))
    assert (asked.status, asked.events) == (499, [])
    assert asked.counted("499", path) == 1
    assert asked.counted("5xx", path) == asked.counted("4xx", path) == 0


@pytest.mark.parametrize("path", ["/cancelled", "/exit", "/thread-exit", "/silent"])
def test_whatever_a_route_raises_is_the_same_500_outside_and_in_the_log(
    asked: Asked, path: str
) -> None:
    answer = asked.get(path, **{"X-Request-ID": "given-1"})
    assert (answer.status_code, answer.json()["request_id"]) == (500, "given-1")
    assert (asked.status, asked.events) == (500, ["unhandled error"])


def test_an_answer_that_does_not_fit_its_type_is_logged_without_it(asked: Asked) -> None:
    with capture_logs() as logged:
        assert asked.client.get("/failures/unfit").status_code == 500
    (error,) = [line["exc_info"] for line in logged if line["event"] == "unhandled error"]
    shown = "".join(traceback.format_exception(error))
    assert "int_parsing" in shown
    assert "hunter2" not in shown


@pytest.mark.parametrize("key", [Exception, 500])
def test_the_owners_handler_of_exceptions_answers(asked: Asked, key: Any) -> None:
    @asked.app.exception_handler(key)
    def answer(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"path": request.url.path, "error": type(error).__name__}, 501)

    found = asked.get("/bug")
    assert (found.status_code, asked.status) == (501, 501)
    assert found.json() == {"path": "/failures/bug", "error": "ZeroDivisionError"}
    assert found.headers["X-Request-ID"]
    assert asked.events == ["unhandled error"]


def test_an_owners_handler_that_fails_leaves_the_problem(asked: Asked) -> None:
    @asked.app.exception_handler(Exception)
    async def answer(request: Request, error: Exception) -> None:
        raise KeyError from error

    found = asked.get("/bug")
    assert (found.status_code, found.headers["Content-Type"]) == (500, "application/problem+json")
    assert asked.events == ["unhandled error", "the handler of unhandled errors failed"]


@pytest.mark.parametrize(
    ("seconds", "timeout", "status"),
    [("9", "0.0001", 408), ("0", "3", 504), ("0", "60", 504)],
)
def test_a_deadline_of_the_client_is_no_failure_of_the_service(
    asked: Asked, seconds: str, timeout: str, status: int
) -> None:
    answer = asked.get(f"/late?seconds={seconds}", **{"Request-Timeout": timeout})
    assert (answer.status_code, asked.status) == (status, status)
    assert answer.json()["status"] == status


def test_an_inner_deadline_that_the_client_set_is_none_either(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slipway_kit.request_context._TIMER_SECONDS", 60)
    assert asked.get("/late?seconds=0", **{"Request-Timeout": "3"}).status_code == 408
    assert asked.get("/late?seconds=0").status_code == 504


def test_a_socket_whose_client_is_lost_is_no_bug(asked: Asked) -> None:
    def lose() -> None:
        with asked.client.websocket_connect("/failures/lost") as socket:
            socket.close(1006)

    asked.watched(lose)
    assert (asked.status, asked.events) == (101, [])


def test_a_socket_that_fails_before_it_is_accepted_is_500(asked: Asked) -> None:
    def fail() -> None:
        with pytest.raises(ZeroDivisionError), asked.client.websocket_connect("/failures/bug"):
            pass

    asked.watched(fail)
    assert (asked.status, asked.events) == (500, ["unhandled error"])
