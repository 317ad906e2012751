"""Where requests come in: as a setting says, in the protocol, in a middleware, or unasked."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from fastapi import FastAPI

from slipway_kit.config.server import ServerSettings
from slipway_kit.http.admission import AdmissionMiddleware
from slipway_kit.http.refusals import Refusals
from slipway_kit.overload.admission import Admission
from slipway_kit.server import protocol

Way = Literal["protocol", "middleware", "off"]


def install(app: FastAPI, server: ServerSettings, *, always: frozenset[str]) -> None:
    """Have requests ask before they start, except for those to the paths of `always`.

    Must come last: nothing that a refusal would have to pass may be around it.
    """
    prefix = server.root_path
    app.state.admission = Admission()
    app.state.entrance = {
        "admission": app.state.admission,
        "refusals": Refusals(server),
        "drain": app.state.drain,
        "shedding": app.state.shedding,
        "always": always | {prefix + path for path in always},
    }
    if _way(server) == "middleware":
        app.add_middleware(AdmissionMiddleware, **app.state.entrance)


def http_of(app: FastAPI, server: ServerSettings) -> str | Callable[..., Any]:
    """Return what uvicorn is to speak HTTP with."""
    if not protocol.supported():
        return "httptools"
    entrance = app.state.entrance
    if server.admission != "protocol":
        return partial(
            protocol.BoundedProtocol, refusals=entrance["refusals"], drain=entrance["drain"]
        )
    return partial(protocol.AdmittingProtocol, **entrance)


def _way(server: ServerSettings) -> Way:
    if server.admission == "protocol" and not protocol.supported():
        return "middleware"
    return server.admission
