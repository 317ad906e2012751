"""Rules that hold for every route of the service, whatever its features."""

import inspect
from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.responses import StreamingResponse
from fastapi.routing import RouteContext, iter_route_contexts

from app.kit.database import SessionDep
from app.kit.streams import JsonLines
from app.kit.threads import uses_session


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


def test_operations_have_names_of_their_own(app: FastAPI) -> None:
    names = [operation["operationId"] for _, operation in operations(app)]
    assert len(names) == len(set(names))
