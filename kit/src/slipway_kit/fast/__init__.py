"""Optional fast paths through private parts of other libraries; they only save CPU time.

`service` calls `install`. Nothing else imports this folder: it can be deleted.
"""

from importlib import import_module
from typing import Any

import structlog
from fastapi import FastAPI

from slipway_kit.fast import request_records
from slipway_kit.http.records import Records
from slipway_kit.logs.setup import LogSetup
from slipway_kit.metrics.instruments import FAST_PATHS
from slipway_kit.runtime import runtime_of
from slipway_kit.tracing.provider import Traces

__all__ = ["install"]

log = structlog.get_logger()


def install(app: FastAPI) -> dict[str, bool]:
    """Enable the fast paths that the installed versions support; return their state by name.

    Call it after logs are configured and before middleware is added. Fast paths that the settings
    do not use, such as light spans without tracing, are left out.
    """
    runtime = runtime_of(app)
    records, traces = runtime.get(Records), runtime.get(Traces)
    # Each with the arguments of its `enable`.
    wanted: dict[str, list[Any]] = {
        "fastapi_memo": [],
        "middleware_stack": [app],
        "metric_cells": [records],
    }
    if request_records.wanted(runtime.get(LogSetup)):
        wanted["request_records"] = [records]
    if traces.enabled:
        wanted |= {"light_span": [traces], "span_bytes": []}
    found = {name: _enable(name, *targets) for name, targets in wanted.items()}
    for name, enabled in found.items():
        FAST_PATHS.labels(name).set(enabled)
    on, off = ([name for name in found if found[name] is state] for state in (True, False))
    log.info("fast paths", on=on, off=off)
    return found


def _enable(name: str, *targets: Any) -> bool:
    """Enable one fast path if it is supported; return whether it was."""
    try:
        # Imported here: some need the tracing SDK, and another version may lack what they import.
        fast_path = import_module(f"{__name__}.{name}")
    except ImportError:
        return False
    if fast_path.supported():
        fast_path.enable(*targets)
        return True
    return False
