"""The master's hooks around what gunicorn does itself."""

import gc
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from slipway_kit.config.server import ServerSettings
from slipway_kit.server.master import Hooks


def test_a_worker_that_cannot_be_started_does_not_end_the_service(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """gunicorn's main loop ends with any exception, and tries again by itself each second."""
    for name in ("collect", "freeze"):
        monkeypatch.setattr(gc, name, lambda: None)

    def spawn_worker() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    arbiter: Any = SimpleNamespace(
        spawn_worker=spawn_worker,
        manage_workers=lambda: None,
        service=SimpleNamespace(exporter=None),
    )
    Hooks("name", ServerSettings(), lambda: None).when_ready(arbiter)
    with capture_logs() as logged:
        arbiter.spawn_worker()
    assert [entry["event"] for entry in logged] == ["worker cannot be started, tried again"]
