"""Rules that hold for every route of a service."""

import inspect
from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from fastapi.routing import RouteContext, iter_route_contexts

from slipway_kit.service.thread_check import uses_session

PROBLEM = {"schema": {"$ref": "#/components/schemas/Problem"}}


def routes(app: FastAPI) -> list[str]:
    """Return each broken rule with the route that breaks it."""
    rules = (streams_with_a_session, unnamed_problems, unusable_names, undescribed, unexplained)
    return [broken for rule in rules for broken in rule(app)]


def streams_with_a_session(app: FastAPI) -> list[str]:
    """Name streaming routes that borrow the session of their request.

    It is closed before the first item: a stream opens `resources.database.transaction()` itself.
    """
    return [
        f"{route.path} streams, and its session is closed before the first item:"
        " open resources.database.transaction() in the stream"
        for route in iter_route_contexts(app.routes)
        if (dependant := getattr(route, "dependant", None))
        and _streams(route)
        and uses_session(dependant)
    ]


def _streams(route: RouteContext) -> bool:
    endpoint: Any = route.endpoint
    returned = inspect.signature(endpoint).return_annotation
    kinds = [returned, getattr(route, "response_class", None)]
    return (
        inspect.isasyncgenfunction(endpoint)
        or inspect.isgeneratorfunction(endpoint)
        or any(isinstance(kind, type) and issubclass(kind, StreamingResponse) for kind in kinds)
    )


def unnamed_problems(app: FastAPI) -> list[str]:
    """Name statuses that an operation can answer and does not document as problems."""
    return [
        f"{name} does not document {status} as a problem: use responses=problems({status})"
        for name, operation in _operations(app)
        for status in sorted(_expected(operation) | _errors(operation))
        if operation["responses"].get(status, {}).get("content")
        != {"application/problem+json": PROBLEM}
    ]


def _expected(operation: dict[str, Any]) -> set[str]:
    inputs = operation.get("parameters", [])
    statuses = {"500", "503", "504"}
    statuses |= {"400", "408", "413", "422"} if "requestBody" in operation else set()
    statuses |= {"422"} if inputs else set()
    return statuses | ({"404"} if any(each["in"] == "path" for each in inputs) else set())


def _errors(operation: dict[str, Any]) -> set[str]:
    return {status for status in operation["responses"] if status >= "400"}


def unusable_names(app: FastAPI) -> list[str]:
    """Name operation ids that a generated client cannot use: no identifiers, or used twice."""
    names = [operation["operationId"] for _, operation in _operations(app)]
    return [
        f"the operation id {name} is not a name of its own: rename its function"
        for name in sorted(set(names))
        if not name.isidentifier() or names.count(name) > 1
    ]


def undescribed(app: FastAPI) -> list[str]:
    """Name operations and tags without a description."""
    document = app.openapi()
    described = {tag["name"] for tag in document.get("tags", []) if tag["description"]}
    used = {tag for _, operation in _operations(app) for tag in operation.get("tags", [])}
    return [
        *(
            f"{name} has no {part}: give its function a docstring"
            for name, operation in _operations(app)
            for part in ("summary", "description")
            if not operation.get(part)
        ),
        *(f"the tag {tag} is not described: add it to TAGS" for tag in sorted(used - described)),
        *(f"no route has the tag {tag}: take it out of TAGS" for tag in sorted(described - used)),
    ]


def unexplained(app: FastAPI) -> list[str]:
    """Name inputs that the document neither shows by example nor by default."""
    schemas = app.openapi().get("components", {}).get("schemas", {})
    return [
        f"{name}: the input {field} has neither an example nor a default"
        for name, operation in _operations(app)
        for field, schema in _inputs(operation, schemas).items()
        if not {"examples", "default", "const", "enum", "$ref"} & schema.keys()
    ]


def _inputs(operation: dict[str, Any], schemas: dict[str, Any]) -> dict[str, dict[str, Any]]:
    inputs: dict[str, dict[str, Any]] = {
        each["name"]: each["schema"] for each in operation.get("parameters", [])
    }
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    reference = body.get("schema", {}).get("$ref", "").rpartition("/")[2]
    inputs.update(schemas.get(reference, {}).get("properties", {}))
    return inputs


def _operations(app: FastAPI) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in app.openapi()["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation
