"""The published contract: FastAPI's document with the errors that are really sent."""

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.constants import REF_PREFIX
from pydantic.json_schema import models_json_schema

from .errors import MEDIA_TYPE, Problem, title

_REPLACED = ("HTTPValidationError", "ValidationError")


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Document problems of a route, for `responses=`; those any route may answer are added."""
    return {int(status): _response(status) for status in statuses}


def install(app: FastAPI) -> None:
    """Let `app.openapi()` tell for each operation which problems it may answer."""
    build = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _with_problems(build())
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI documents this way to extend it


def _with_problems(document: dict[str, Any]) -> dict[str, Any]:
    for path in document.get("paths", {}).values():
        for operation in path.values():
            _describe(operation)
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for name in _REPLACED:
        schemas.pop(name, None)
    _, definitions = models_json_schema(
        [(Problem, "serialization")], ref_template=f"{REF_PREFIX}{{model}}"
    )
    schemas.update(definitions["$defs"])
    document["components"]["schemas"] = dict(sorted(schemas.items()))
    return document


def _describe(operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    responses.pop("422", None)
    for status in _common(operation):
        responses.setdefault(str(int(status)), _response(status))
    operation["responses"] = dict(sorted(responses.items()))


def _common(operation: dict[str, Any]) -> set[HTTPStatus]:
    """Return what any route of this shape may answer."""
    statuses = {
        HTTPStatus.INTERNAL_SERVER_ERROR,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
    if "requestBody" in operation:
        statuses |= {HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE}
    if "requestBody" in operation or operation.get("parameters"):
        statuses.add(HTTPStatus.UNPROCESSABLE_ENTITY)
    return statuses


def _response(status: int) -> dict[str, Any]:
    schema = {"$ref": f"{REF_PREFIX}{Problem.__name__}"}
    return {"description": title(status), "content": {MEDIA_TYPE: {"schema": schema}}}
