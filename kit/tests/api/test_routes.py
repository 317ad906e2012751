"""Rules that hold for every route of the service, whatever its features."""

import inspect
from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.responses import StreamingResponse
from fastapi.routing import RouteContext, iter_route_contexts
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR

from slipway_kit.db.sessions import SessionDep
from slipway_kit.http.dependencies import uses_session
from slipway_kit.http.streams import JsonLines


def streams(route: RouteContext) -> bool:
    endpoint: Any = route.endpoint
    returned = inspect.signature(endpoint).return_annotation
    kinds = [returned, getattr(route, "response_class", None)]
    return (
        inspect.isasyncgenfunction(endpoint)
        or inspect.isgeneratorfunction(endpoint)
        or any(isinstance(kind, type) and issubclass(kind, StreamingResponse) for kind in kinds)
    )


def broken(app: FastAPI) -> list[str | None]:
    """Paths of streaming routes that borrow a session, which ends before their first item."""
    return [
        route.path
        for route in iter_route_contexts(app.routes)
        if (dependant := getattr(route, "dependant", None))
        and streams(route)
        and uses_session(dependant)
    ]


def test_no_streaming_route_borrows_the_session_of_its_request(app: FastAPI) -> None:
    assert broken(app) == []


def test_the_rule_on_streams_sees_each_kind_of_stream() -> None:
    router = APIRouter()

    @router.get("/annotated")
    async def annotated(session: SessionDep) -> JsonLines:
        raise NotImplementedError

    @router.get("/generator")
    async def generator(session: SessionDep) -> Any:
        yield ""

    @router.get("/class", response_class=StreamingResponse)
    async def by_class(session: SessionDep) -> Any: ...

    @router.get("/plain")
    async def plain(session: SessionDep) -> None: ...

    app = FastAPI()
    app.include_router(router, prefix="/v1")
    assert broken(app) == ["/v1/annotated", "/v1/generator", "/v1/class"]


def operations(app: FastAPI) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in app.openapi()["paths"].items():
        for method, operation in methods.items():
            yield f"{method} {path}", operation


def test_every_operation_documents_its_problems(app: FastAPI) -> None:
    for name, operation in operations(app):
        responses = operation["responses"]
        expected = {"500", "503", "504"}
        if "requestBody" in operation:
            expected |= {"400", "413", "422"}
        if operation.get("parameters"):
            expected |= {"422"}
        if any(p["in"] == "path" for p in operation.get("parameters", [])):
            expected |= {"404"}
        assert expected <= responses.keys(), name
        for status, response in responses.items():
            if status >= "400":
                content = response["content"]
                assert list(content) == ["application/problem+json"], (name, status)
                assert content["application/problem+json"]["schema"] == {
                    "$ref": "#/components/schemas/Problem"
                }


def test_operations_have_names_of_their_own_that_a_client_can_use(app: FastAPI) -> None:
    names = [operation["operationId"] for _, operation in operations(app)]
    assert len(names) == len(set(names))
    assert [name for name in names if not name.isidentifier()] == []


def test_every_tag_says_what_it_is_about(app: FastAPI) -> None:
    used = {tag for _, operation in operations(app) for tag in operation.get("tags", [])}
    described = {tag["name"] for tag in app.openapi().get("tags", []) if tag["description"]}
    assert used == described


def test_every_operation_has_a_summary_and_a_description(app: FastAPI) -> None:
    for name, operation in operations(app):
        assert operation["summary"], name
        assert operation["description"], name


def unexplained(document: dict[str, Any]) -> Iterator[str]:
    """Find what a client must send and the document neither shows by example nor by default."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            inputs = {each["name"]: each["schema"] for each in operation.get("parameters", [])}
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            reference = body.get("schema", {}).get("$ref", "").rpartition("/")[2]
            inputs |= document["components"]["schemas"].get(reference, {}).get("properties", {})
            for name, schema in inputs.items():
                if not {"examples", "default", "const", "enum", "$ref"} & schema.keys():
                    yield f"{method} {path}: {name}"


def test_every_input_has_an_example_or_a_default(app: FastAPI) -> None:
    assert list(unexplained(app.openapi())) == []


def test_an_input_without_an_example_is_found() -> None:
    app = FastAPI()

    @app.post("/pots/{number}")
    async def add_pot(number: int, size: int = 3) -> None: ...

    assert list(unexplained(app.openapi())) == ["post /pots/{number}: number"]


def test_the_document_is_valid_openapi(app: FastAPI) -> None:
    document = app.openapi()
    assert document["openapi"].startswith("3.1.")
    OPENAPI_31_VALIDATOR.validate(document)
