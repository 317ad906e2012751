"""A middleware stack without the three layers that FastAPI puts around all middleware.

They answer 500 for what nobody handled, limit bodies and watch exceptions for FastAPI's telemetry,
and wrap every message of every answer once more. `Observe`, where it is the outermost middleware,
does the first; the limits are another middleware's; the telemetry is off.
"""

from collections.abc import Callable, Iterable
from typing import Any

from fastapi import FastAPI
from fastapi import applications as fastapi
from starlette.types import ASGIApp

from slipway_kit.fast import guard
from slipway_kit.http.observation import Observe

_KNOWN = frozenset({"086b129bc959f1cb"})
_AROUND = ("ServerErrorMiddleware", "ExceptionTelemetryMiddleware", "AppBodyLimitMiddleware")
_METHOD = "build_middleware_stack"


def _parts() -> Iterable[Callable[..., Any]]:
    layers: list[Any] = [getattr(fastapi, name) for name in _AROUND]
    return [FastAPI.build_middleware_stack, *(layer.__call__ for layer in layers)]


def supported() -> bool:
    """Tell whether FastAPI's layers do no more than they did."""
    return guard.is_known(_parts, _KNOWN)


def enable(app: FastAPI) -> None:
    """Have `app` build the shorter stack, where nothing was added around `Observe`."""
    whole = FastAPI.build_middleware_stack

    def build() -> ASGIApp:
        built = layer = whole(app)
        while type(layer).__name__ in _AROUND:
            layer = getattr(layer, "app")  # noqa: B009 (an ASGI app is not known to have one)
        # A layer that was added around `Observe` needs those of FastAPI around it.
        return layer if isinstance(layer, Observe) else built

    vars(app)[_METHOD] = build


def disable(app: FastAPI) -> None:
    """Have `app` build FastAPI's own stack."""
    vars(app).pop(_METHOD, None)
