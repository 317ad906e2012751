"""Rules that hold for every route: the service keeps them, and a route that breaks one is found."""

from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.responses import StreamingResponse
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR

from slipway_kit.db.sessions import SessionDep
from slipway_kit.http.streams import JsonLines
from slipway_kit.testing.checks import route_rules as routes


def test_no_streaming_route_borrows_the_session_of_its_request(app: FastAPI) -> None:
    assert routes.streams_with_a_session(app) == []


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
    found = [fault.split()[0] for fault in routes.streams_with_a_session(app)]
    assert found == ["/v1/annotated", "/v1/generator", "/v1/class"]


def test_every_operation_documents_its_problems(app: FastAPI) -> None:
    assert routes.unnamed_problems(app) == []


def test_operations_have_names_of_their_own_that_a_client_can_use(app: FastAPI) -> None:
    assert routes.unusable_names(app) == []


def test_every_tag_says_what_it_is_about(app: FastAPI) -> None:
    assert routes.undescribed(app) == []


def test_every_input_has_an_example_or_a_default(app: FastAPI) -> None:
    assert routes.unexplained(app) == []


@pytest.fixture
def pots() -> FastAPI:
    """An app of FastAPI alone that breaks every rule on documents."""
    app = FastAPI(generate_unique_id_function=lambda route: f"{route.name}!")

    @app.post("/pots/{number}", tags=["pots"])
    async def add_pot(number: int, size: int = 3) -> None: ...

    return app


def test_an_operation_that_breaks_a_rule_is_named(pots: FastAPI) -> None:
    assert routes.unexplained(pots) == [
        "POST /pots/{number}: the input number has neither an example nor a default"
    ]
    assert routes.undescribed(pots) == [
        "POST /pots/{number} has no description: give its function a docstring",
        "the tag pots is not described: add it to TAGS",
    ]
    assert routes.unusable_names(pots) == [
        "the operation id add_pot! is not a name of its own: rename its function"
    ]
    lacking = [fault.split()[5] for fault in routes.unnamed_problems(pots)]
    assert lacking == ["404", "422", "500", "503", "504"]


def test_the_document_is_valid_openapi(app: FastAPI) -> None:
    document = app.openapi()
    assert document["openapi"].startswith("3.1.")
    OPENAPI_31_VALIDATOR.validate(document)
