"""The only call of `slipway_kit.fast`, an optional folder."""

from importlib import import_module

import structlog
from fastapi import FastAPI

from slipway_kit.http.finished import Records
from slipway_kit.tracing.provider import Traces

log = structlog.get_logger()
_FOLDER = "slipway_kit.fast"


def install(app: FastAPI, *, records: Records, traces: Traces) -> None:
    """Enable the supported fast paths, or log that the folder is missing."""
    try:
        fast = import_module(_FOLDER)
    except ModuleNotFoundError as missing:
        if missing.name != _FOLDER:
            raise
        log.info("fast paths are not installed")
        return
    fast.install(app, records=records, traces=traces)
