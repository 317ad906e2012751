"""What an HTTP request meets: observation, limits, problems, OpenAPI, probes and streams."""

from slipway_kit.http.drain import Drain, hang_up_if_leaving
from slipway_kit.http.openapi import answer, problems
from slipway_kit.http.probes import Check
from slipway_kit.http.problem_details import problem_response
from slipway_kit.http.streams import (
    KEEP_ALIVE,
    KEEP_ALIVE_SECONDS,
    EventStream,
    JsonLines,
    event,
    with_silences,
)

__all__ = [
    "KEEP_ALIVE",
    "KEEP_ALIVE_SECONDS",
    "Check",
    "Drain",
    "EventStream",
    "JsonLines",
    "answer",
    "event",
    "hang_up_if_leaving",
    "problem_response",
    "problems",
    "with_silences",
]
