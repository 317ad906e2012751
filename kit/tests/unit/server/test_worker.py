"""How a worker divides the time of its shutdown."""

from types import SimpleNamespace
from typing import Any

import pytest
from uvicorn.config import Config

from app.main import create_app
from slipway_kit.config.server import ServerSettings
from slipway_kit.runtime import runtime_of
from slipway_kit.server.worker import DrainingServer


def test_a_short_drain_leaves_its_time_to_requests_in_flight() -> None:
    app = create_app()
    worker: Any = SimpleNamespace()
    server = DrainingServer(Config(app), runtime_of(app), worker)
    server.servers = []
    plan = runtime_of(app).get(ServerSettings).shutdown
    server._drain_without_port(2)
    left = server.config.timeout_graceful_shutdown
    assert left is not None
    assert 2 + left == pytest.approx(plan.drain + plan.requests)
    assert plan.worker - server._drain_seconds == pytest.approx(left + plan.close + plan.flush)
