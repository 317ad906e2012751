"""Errors as problem details (RFC 9457)."""

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from http.client import responses
from typing import Any
from urllib.parse import quote

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from fastapi.utils import is_body_allowed_for_status_code
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from slipway_kit.errors import MAX_TEXT, DeadlineExceeded, Overloaded, ServiceError, cause
from slipway_kit.request_context import client_deadline_passed

MEDIA_TYPE = "application/problem+json"
# Bounds the answer to a request with thousands of invalid fields.
MAX_ERRORS = 20
# Python renamed these phrases between its versions.
_TITLES = {413: "Content Too Large", 422: "Unprocessable Content"}

log = structlog.get_logger()


class FieldError(BaseModel):
    """An invalid field of a request."""

    loc: list[str | int] = Field(description="where: body, query, path, then names and positions")
    msg: str


class Problem(BaseModel):
    """Problem details of RFC 9457."""

    type: str = Field(default="about:blank", description="the kind of problem, a URI")
    title: str = Field(examples=["Not Found"])
    status: int = Field(examples=[404])
    detail: str = Field(description="a sentence for the person who reads it")
    instance: str = Field(description="the path that was asked for")
    request_id: str = Field(description="the same as in the X-Request-ID header and in the log")
    errors: list[FieldError] | None = Field(default=None, description="with status 422 alone")


def install(app: FastAPI) -> None:
    """Answer our errors and the framework's with problems.

    There is no handler for `Exception`, which Starlette would run outside every middleware, without
    the request id. The outermost middleware answers those, or calls the owner's.
    """
    app.exception_handler(ServiceError)(_service_error)
    app.exception_handler(HTTPException)(_http_exception)
    app.exception_handler(RequestValidationError)(_invalid)


def problem_response(
    status: int,
    detail: str,
    scope: Scope,
    *,
    headers: Mapping[str, str] | None = None,
    errors: Sequence[Mapping[str, Any]] | None = None,
) -> Response:
    """Return a problem as the answer to the request of an ASGI scope."""
    problem: dict[str, Any] = {
        "type": "about:blank",
        "title": title(status),
        "status": int(status),
        "detail": detail,
        "instance": encoded_path(scope),
        "request_id": scope.get("request_id", ""),
    }
    if errors is not None:
        problem["errors"] = errors
    # ASCII: a lone surrogate in a client's field name cannot be written as UTF-8.
    body = json.dumps(problem, ensure_ascii=True)
    return Response(body, int(status), headers, MEDIA_TYPE)


def encoded_path(scope: Scope) -> str:
    """Return the path of a request, percent-encoded."""
    return quote(scope.get("path", ""), errors="replace")


def title(status: int) -> str:
    """Return the phrase of a status, the same in every version of Python."""
    return _TITLES.get(status) or responses.get(status, "Error")


async def _service_error(request: Request, error: ServiceError) -> Response:
    status = error.status
    if isinstance(error, DeadlineExceeded) and client_deadline_passed():
        status = HTTPStatus.REQUEST_TIMEOUT
    # Shed requests are counted: a log line for each would cost more than the refusal.
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR and not isinstance(error, Overloaded):
        log.warning("service error", error=type(error).__name__, cause=cause(error))
    return problem_response(status, str(error), request.scope, headers=error.headers)


async def _http_exception(request: Request, error: HTTPException) -> Response:
    status = error.status_code
    if not is_body_allowed_for_status_code(status):
        return Response(status_code=status, headers=error.headers)
    headers = dict(error.headers or {})
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers.update(_allow(request))
    return problem_response(status, str(error.detail), request.scope, headers=headers)


def _allow(request: Request) -> dict[str, str]:
    """Return every method of the path; the framework names those of its first route only."""
    routes = [
        route
        for route in iter_route_contexts(request.app.routes)
        if getattr(route, "methods", None) and route.matches(request.scope)[0] != Match.NONE
    ]
    # A path with a parameter may match too, but is another resource.
    own = set().union(*(route.methods or () for route in routes if route.path == routes[0].path))
    if "GET" in own:
        own.add("HEAD")
    return {"Allow": ", ".join(sorted(own))} if own else {}


async def _invalid(request: Request, error: RequestValidationError) -> Response:
    problems = error.errors()
    if any(problem["type"] == "json_invalid" for problem in problems):
        return problem_response(HTTPStatus.BAD_REQUEST, "The body is not JSON.", request.scope)
    return problem_response(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "The request is not valid.",
        request.scope,
        errors=[_field_error(problem) for problem in problems[:MAX_ERRORS]],
    )


def _field_error(problem: Mapping[str, Any]) -> dict[str, Any]:
    """Return location and message, without pydantic's `input`, `ctx` and `url`."""
    loc = [part[:MAX_TEXT] if isinstance(part, str) else part for part in problem["loc"]]
    return {"loc": loc, "msg": str(problem["msg"])[:MAX_TEXT]}
