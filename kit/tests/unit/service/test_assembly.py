"""Which way requests come in; what a service may add is in test_hooks."""

from functools import partial

import pytest

from app.main import create_app
from app.settings import Settings
from slipway_kit.config.server import ServerSettings
from slipway_kit.runtime import runtime_of
from slipway_kit.server.protocol import AdmittingProtocol, BoundedProtocol, HttpProtocol


@pytest.mark.parametrize(
    ("way", "supported", "protocol", "in_middleware"),
    [
        ("protocol", True, AdmittingProtocol, False),
        ("protocol", False, None, True),
        ("middleware", True, BoundedProtocol, True),
        ("middleware", False, None, True),
        ("off", True, BoundedProtocol, False),
    ],
)
def test_requests_are_asked_in_one_place(
    way: str,
    supported: bool,
    protocol: type | None,
    in_middleware: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("slipway_kit.server.protocol.supported", lambda: supported)
    server = ServerSettings.model_validate({"admission": way, "root_path": "/shop"})
    app = create_app(Settings(server=server))
    factory = runtime_of(app).get(HttpProtocol).factory
    if protocol is None:
        assert factory == "httptools"
    else:
        assert isinstance(factory, partial)
        assert factory.func is protocol
    outermost = app.user_middleware[0]
    assert (repr(outermost).startswith("Middleware(AdmissionMiddleware")) is in_middleware
    asks = factory.keywords if isinstance(factory, partial) else {}
    always = (asks | outermost.kwargs).get("always", {"/livez", "/shop/livez"})
    assert {"/livez", "/shop/livez"} <= always
