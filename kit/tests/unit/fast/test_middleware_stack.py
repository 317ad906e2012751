"""The layers of FastAPI around all others are left out where they do nothing of use."""

import pytest
from fastapi import FastAPI
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry
from starlette.middleware.errors import ServerErrorMiddleware

from slipway_kit.fast import middleware_stack
from slipway_kit.http.observation import ObservationMiddleware
from slipway_kit.http.probes import Drain
from slipway_kit.http.records import Records
from slipway_kit.tracing.provider import Traces


@pytest.fixture
def app() -> FastAPI:
    made = FastAPI()
    made.add_middleware(
        ObservationMiddleware,
        drain=Drain(),
        traces=Traces(),
        headers=[],
        record=Records(CollectorRegistry()).add,
    )
    return made


def outermost(app: FastAPI) -> str:
    return type(app.build_middleware_stack()).__name__


def test_observation_is_outermost_until_that_is_taken_back(app: FastAPI) -> None:
    assert middleware_stack.supported()
    assert outermost(app) == "ServerErrorMiddleware"
    middleware_stack.enable(app)
    assert outermost(app) == "ObservationMiddleware"
    with TestClient(app) as client:
        assert client.get("/nothing").status_code == 404
    middleware_stack.disable()
    assert outermost(app) == "ServerErrorMiddleware"


def test_the_layers_are_there_when_something_else_is_outermost(app: FastAPI) -> None:
    middleware_stack.enable(app)
    app.add_middleware(GZipMiddleware)
    assert outermost(app) == "ServerErrorMiddleware"


def test_a_fastapi_that_builds_otherwise_is_not_supported(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(FastAPI, "build_middleware_stack", lambda self: self.router)
        assert not middleware_stack.supported()
    monkeypatch.setattr(ServerErrorMiddleware, "__call__", lambda *_: None)
    assert not middleware_stack.supported()
