"""Shortcuts through private parts of other libraries; each only saves time and can be left out.

`service` calls `install`. No other folder of this library knows this one: it can be deleted.
"""

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import structlog
from fastapi import FastAPI

from slipway_kit.fast import request_records
from slipway_kit.http.ended import Records
from slipway_kit.metrics.fast_paths import ENABLED
from slipway_kit.tracing.provider import Traces

__all__ = ["install"]

log = structlog.get_logger()


def install(app: FastAPI, *, records: Records, traces: Traces) -> dict[str, bool]:
    """Enable what these versions of the libraries support, log it, and return it by name.

    To be called after the logs are configured and before the middleware is added. What the
    settings have no use for, such as light spans without traces, is left out.
    """
    found = {name: _enable(name, *targets) for name, *targets in _wanted(app, records, traces)}
    for name, enabled in found.items():
        ENABLED.labels(name).set(enabled)
    on, off = ([name for name in found if found[name] is state] for state in (True, False))
    log.info("fast paths", on=on, off=off)
    return found


def _wanted(app: FastAPI, records: Records, traces: Traces) -> Iterator[tuple[Any, ...]]:
    """Give the names of modules, each with what it is enabled for."""
    yield ("fastapi_memo",)
    yield "middleware_stack", app
    yield "metric_cells", records.metrics
    if request_records.wanted():
        yield "request_records", records
    if traces.enabled:
        yield "light_span", traces
        yield ("span_bytes",)


def _enable(name: str, *targets: Any) -> bool:
    """Enable one if it is supported; tell whether it was."""
    try:
        # Some import what is never imported without traces, all what another version may lack.
        shortcut = import_module(f"{__name__}.{name}")
    except ImportError:
        return False
    if not shortcut.supported():
        return False
    shortcut.enable(*targets)
    return True
