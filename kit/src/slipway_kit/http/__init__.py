"""The HTTP layer: observation, limits, problems, OpenAPI, probes and streams."""

from slipway_kit.http.openapi import answer, problems
from slipway_kit.http.probes import Check, Drain, close_if_draining
from slipway_kit.http.problem_details import problem_response
from slipway_kit.http.streams import (
    KEEP_ALIVE,
    KEEP_ALIVE_SECONDS,
    EventStream,
    JsonLines,
    event,
    with_keep_alives,
)

__all__ = [
    "KEEP_ALIVE",
    "KEEP_ALIVE_SECONDS",
    "Check",
    "Drain",
    "EventStream",
    "JsonLines",
    "answer",
    "close_if_draining",
    "event",
    "problem_response",
    "problems",
    "with_keep_alives",
]
