"""The master's hooks around what gunicorn does itself."""

import gc
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.errors import HaltServer
from structlog.testing import capture_logs

from slipway_kit.config.server import ServerSettings
from slipway_kit.server.master import Hooks


@pytest.fixture
def arbiter(monkeypatch: pytest.MonkeyPatch) -> Any:
    """gunicorn's master with our hooks, whose workers neither start nor end well."""
    for name in ("collect", "freeze"):
        monkeypatch.setattr(gc, name, lambda: None)
    failing = [3, 3]

    def spawn_worker() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    def stop(graceful: bool) -> None:
        assert graceful
        if failing:
            raise HaltServer("Worker failed to boot.", failing.pop())

    made = SimpleNamespace(
        spawn_worker=spawn_worker,
        stop=stop,
        manage_workers=lambda: None,
        service=SimpleNamespace(exporter=None),
        failing=failing,
    )
    Hooks("name", ServerSettings(), lambda: None).when_ready(made)
    return made


def test_a_worker_that_cannot_be_started_does_not_end_the_service(arbiter: Any) -> None:
    """gunicorn's main loop ends with any exception, and tries again by itself each second."""
    with capture_logs() as logged:
        arbiter.spawn_worker()
    assert [entry["event"] for entry in logged] == ["worker cannot be started, tried again"]


def test_workers_that_fail_to_start_while_the_service_stops_change_nothing(arbiter: Any) -> None:
    """gunicorn raises for each of them, which would skip the rest of its end and its status."""
    arbiter.stop()
    assert arbiter.failing == []
