"""Optional fast paths through private parts of other libraries; they only save CPU time.

`service` calls `install`. Nothing else imports this folder: it can be deleted.
"""

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import structlog
from fastapi import FastAPI

from slipway_kit.fast import request_records
from slipway_kit.http.records import Records
from slipway_kit.metrics.fast_paths import ENABLED
from slipway_kit.tracing.provider import Traces

__all__ = ["install"]

log = structlog.get_logger()


def install(app: FastAPI, *, records: Records, traces: Traces) -> dict[str, bool]:
    """Enable the fast paths that the installed versions support; return their state by name.

    Call it after logs are configured and before middleware is added. Fast paths that the settings
    do not use, such as light spans without tracing, are left out.
    """
    found = {name: _enable(name, *targets) for name, *targets in _wanted(app, records, traces)}
    for name, enabled in found.items():
        ENABLED.labels(name).set(enabled)
    on, off = ([name for name in found if found[name] is state] for state in (True, False))
    log.info("fast paths", on=on, off=off)
    return found


def _wanted(app: FastAPI, records: Records, traces: Traces) -> Iterator[tuple[Any, ...]]:
    """Yield module names, each with the arguments of its `enable`."""
    yield ("fastapi_memo",)
    yield "middleware_stack", app
    yield "metric_cells", records
    if request_records.wanted():
        yield "request_records", records
    if traces.enabled:
        yield "light_span", traces
        yield ("span_bytes",)


def _enable(name: str, *targets: Any) -> bool:
    """Enable one fast path if it is supported; return whether it was."""
    try:
        # Imported here: some need the tracing SDK, and another version may lack what they import.
        fast_path = import_module(f"{__name__}.{name}")
    except ImportError:
        return False
    if not fast_path.supported():
        return False
    fast_path.enable(*targets)
    return True
