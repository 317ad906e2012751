"""Shortcuts through private parts of other libraries; each only saves time and can be left out.

`service` calls `install`. No other folder of this library knows this one: it can be deleted.
"""

from collections.abc import Callable, Iterator

import structlog
from fastapi import FastAPI

from slipway_kit.fast import fastapi_memo, metric_cells, middleware_stack, request_records
from slipway_kit.http.ended import Records
from slipway_kit.metrics.fast_paths import ENABLED
from slipway_kit.tracing.provider import Traces

__all__ = ["install"]

log = structlog.get_logger()
# A name, whether it is supported, and what enables it.
_Shortcut = tuple[str, Callable[[], bool], Callable[[], None]]


def install(app: FastAPI, *, records: Records, traces: Traces) -> dict[str, bool]:
    """Enable what these versions of the libraries support, log it, and return it by name.

    To be called after the logs are configured and before the middleware is added. What the
    settings have no use for, such as light spans without traces, is left out.
    """
    found = {}
    for name, supported, enable in _shortcuts(app, records, traces):
        found[name] = supported()
        if found[name]:
            enable()
        ENABLED.labels(name).set(found[name])
    on, off = ([name for name in found if found[name] is state] for state in (True, False))
    log.info("fast paths", on=on, off=off)
    return found


def _shortcuts(app: FastAPI, records: Records, traces: Traces) -> Iterator[_Shortcut]:
    yield "fastapi_memo", fastapi_memo.supported, fastapi_memo.enable
    yield "middleware_stack", middleware_stack.supported, lambda: middleware_stack.enable(app)
    yield "metric_cells", metric_cells.supported, lambda: metric_cells.enable(records.metrics)
    if request_records.wanted():
        yield "request_records", request_records.supported, lambda: request_records.enable(records)
    if traces.enabled:
        # Without traces never imported.
        from slipway_kit.fast import light_span, span_bytes  # noqa: PLC0415

        yield "light_span", light_span.supported, lambda: light_span.enable(traces)
        yield "span_bytes", span_bytes.supported, span_bytes.enable
