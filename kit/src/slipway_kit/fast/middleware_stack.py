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

from slipway_kit.fast import guard
from slipway_kit.http.observation import ObservationMiddleware

_KNOWN = frozenset({"086b129bc959f1cb"})
_AROUND = ("ServerErrorMiddleware", "ExceptionTelemetryMiddleware", "AppBodyLimitMiddleware")
_METHOD = "build_middleware_stack"


def _parts() -> Iterable[Callable[..., Any]]:
    layers: list[Any] = [getattr(fastapi, name) for name in _AROUND]
    return [FastAPI.build_middleware_stack, *(layer.__call__ for layer in layers)]


def supported() -> bool:
    """Whether the source of FastAPI's layers is known."""
    return guard.is_known(_parts, _KNOWN)


def enable(app: FastAPI) -> None:
    """Make `app` build the shorter stack, if `ObservationMiddleware` is the outermost."""
    whole = FastAPI.build_middleware_stack

    def build() -> ASGIApp:
        built = layer = whole(app)
        while type(layer).__name__ in _AROUND:
            layer = getattr(layer, "app")  # noqa: B009 (ASGIApp declares no attribute)
        # Another middleware around `ObservationMiddleware` needs the layers of FastAPI.
        return layer if isinstance(layer, ObservationMiddleware) else built

    vars(app)[_METHOD] = build


def disable(app: FastAPI) -> None:
    """Make `app` build FastAPI's own stack."""
    vars(app).pop(_METHOD, None)
