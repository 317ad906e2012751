"""A middleware stack without the three layers that FastAPI puts around all middleware.

They answer 500 for unhandled errors, limit bodies and report exceptions to FastAPI's telemetry, and
each wraps every message. `ObservationMiddleware`, as the outermost middleware, answers 500;
another middleware limits bodies; the telemetry is off.
"""

from collections.abc import Callable, Iterable
from typing import Any

from fastapi import FastAPI
from fastapi import applications as fastapi
from starlette.types import ASGIApp

from slipway_kit.fast.guard import FastPath
from slipway_kit.http.observation import ObservationMiddleware

_AROUND = ("ServerErrorMiddleware", "ExceptionTelemetryMiddleware", "AppBodyLimitMiddleware")


def _parts() -> Iterable[Callable[..., Any]]:
    layers: list[Any] = [getattr(fastapi, name) for name in _AROUND]
    return [FastAPI.build_middleware_stack, *(layer.__call__ for layer in layers)]


_path = FastPath(_parts, "086b129bc959f1cb")
supported, disable = _path.supported, _path.disable


def enable(app: FastAPI) -> None:
    """Make `app` build the shorter stack, if `ObservationMiddleware` is the outermost."""

    def build() -> ASGIApp:
        built = layer = FastAPI.build_middleware_stack(app)
        while type(layer).__name__ in _AROUND:
            layer = getattr(layer, "app")  # noqa: B009 (ASGIApp declares no attribute)
        # Another middleware around `ObservationMiddleware` needs the layers of FastAPI.
        return layer if isinstance(layer, ObservationMiddleware) else built

    _path.replace(app, "build_middleware_stack", build)
