import json
from http import HTTPStatus

import pytest
from fastapi import APIRouter, FastAPI, HTTPException
from fastapi.testclient import TestClient
from pydantic import BaseModel, ConfigDict
from structlog.testing import capture_logs

from slipway_kit.errors import Conflict, DeadlineExceeded, Overloaded, Unavailable
from slipway_kit.http import openapi, problem_details
from slipway_kit.http.openapi import OpenAPISettings
from slipway_kit.http.problem_details import problem_response, title

router = APIRouter()


class Note(BaseModel):
    model_config = ConfigDict(extra="forbid")

    text: str


class Taken(Conflict):
    """A situation, as features name them."""


RAISED: dict[str, Exception] = {
    "taken": Taken("There is already such a note."),
    "overloaded": Overloaded("Come back later."),
    "unavailable": Unavailable("It is away."),
    "late": DeadlineExceeded("That took too long."),
    "teapot": HTTPException(418, "short and stout", headers={"X-Spout": "left"}),
    "unchanged": HTTPException(304, headers={"ETag": '"1"'}),
    "unknown": HTTPException(599, "odd"),
}


@router.get("/raise/{what}")
async def raise_it(what: str) -> None:
    raise RAISED[what]


@router.post("/notes")
async def add_note(note: Note) -> Note:
    return note


@router.delete("/notes")
async def forget_notes() -> None: ...


@router.put("/{name}")
async def rename(name: str) -> None: ...


@pytest.fixture
def client() -> TestClient:
    app = FastAPI()
    app.include_router(router)
    problem_details.install(app)
    openapi.install(app, OpenAPISettings(), owner="Ada", tags={})
    return TestClient(app, raise_server_exceptions=False)


@pytest.mark.parametrize(
    ("what", "status", "name", "detail"),
    [
        ("taken", 409, "Conflict", "There is already such a note."),
        ("overloaded", 503, "Service Unavailable", "Come back later."),
        ("late", 504, "Gateway Timeout", "That took too long."),
        ("teapot", 418, "I'm a Teapot", "short and stout"),
        ("unknown", 599, "Error", "odd"),
    ],
)
def test_an_error_is_answered_as_a_problem(
    what: str, status: int, name: str, detail: str, client: TestClient
) -> None:
    answer = client.get(f"/raise/{what}")
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {
        "type": "about:blank",
        "title": name,
        "status": status,
        "detail": detail,
        "instance": f"/raise/{what}",
        "request_id": "",
    }


def test_an_unavailable_service_has_retry_after_and_logs_the_cause(client: TestClient) -> None:
    with capture_logs() as events:
        answer = client.get("/raise/unavailable")
    assert answer.headers["retry-after"] == "1"
    assert {"event": "service error", "error": "Unavailable"}.items() <= events[0].items()


def test_a_shed_request_has_retry_after_and_is_not_logged(client: TestClient) -> None:
    with capture_logs() as events:
        answer = client.get("/raise/overloaded")
    assert answer.headers["retry-after"] == "1"
    assert events == []


def test_the_headers_of_an_http_exception_are_kept(client: TestClient) -> None:
    assert client.get("/raise/teapot").headers["x-spout"] == "left"
    assert "GET" in client.post("/raise/teapot").headers["allow"]
    unchanged = client.get("/raise/unchanged")
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert unchanged.headers["etag"] == '"1"'


def test_405_names_every_method_of_the_path(client: TestClient) -> None:
    assert client.patch("/notes").headers["Allow"] == "DELETE, POST"
    assert client.patch("/raise/taken").headers["Allow"] == "GET, HEAD"
    assert client.patch("/other").headers["Allow"] == "PUT"


@pytest.mark.parametrize(("path", "status"), [("/no/where", 404), ("/notes", 405)])
def test_the_frameworks_own_errors_are_problems_too(
    path: str, status: int, client: TestClient
) -> None:
    answer = client.get(path)
    assert answer.status_code == answer.json()["status"] == status
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_body_that_is_not_json_is_a_bad_request(client: TestClient) -> None:
    for body in (b"{", b"\xff", b"[" * 100_000, b"1" * 5000):
        answer = client.post("/notes", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code in {400, 422}
        assert answer.headers["content-type"] == "application/problem+json"
    answer = client.post("/notes", content=b"{", headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["detail"]) == (400, "The body is not JSON.")


def test_an_invalid_field_is_named_without_its_value(client: TestClient) -> None:
    answer = client.post("/notes", json={"text": {"password": "hunter2"}})
    assert answer.status_code == 422
    assert answer.json()["errors"] == [
        {"loc": ["body", "text"], "msg": "Input should be a valid string"}
    ]
    assert "hunter2" not in answer.text


def test_a_thousand_bad_fields_get_a_short_answer(client: TestClient) -> None:
    answer = client.post("/notes", json={f"{n}{'x' * 1000}": n for n in range(1000)})
    assert len(answer.json()["errors"]) == 20
    assert len(answer.content) < 10_000


def test_a_lone_surrogate_does_not_break_the_answer(client: TestClient) -> None:
    headers = {"Content-Type": "application/json"}
    answer = client.post("/notes", content=rb'{"\ud800": "\ud800"}', headers=headers)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["loc"][0] == "body"
    response = problem_response(422, "Bad.", {}, errors=[{"loc": ["\ud800"], "msg": ""}])
    assert json.loads(bytes(response.body))["errors"][0]["loc"] == ["\ud800"]


def test_a_path_is_repeated_percent_encoded() -> None:
    response = problem_response(404, "Gone.", {"path": '/a"\n\ud800', "request_id": "7"})
    problem = json.loads(bytes(response.body))
    assert problem["instance"] == "/a%22%0A%3F"
    assert problem["request_id"] == "7"


def test_titles_are_the_same_on_every_python() -> None:
    assert title(413) == "Content Too Large"
    assert title(422) == "Unprocessable Content"
    assert title(404) == HTTPStatus.NOT_FOUND.phrase


def test_the_document_names_each_problem_and_no_other_shape_of_error(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    assert client.get("/openapi.json").json() == document
    responses = document["paths"]["/notes"]["post"]["responses"]
    assert list(responses) == ["200", "400", "408", "413", "422", "500", "503", "504"]
    schema = responses["422"]["content"]["application/problem+json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/Problem"}
    assert list(document["paths"]["/raise/{what}"]["get"]["responses"]) == [
        "200",
        "422",
        "500",
        "503",
        "504",
    ]
    assert set(document["components"]["schemas"]) == {"FieldError", "Note", "Problem"}
    required = document["components"]["schemas"]["Problem"]["required"]
    assert {"title", "status", "detail", "instance", "request_id"} <= set(required)


def test_routes_that_add_problems_keep_the_common_ones() -> None:
    assert openapi.problems(404, 409).keys() == {404, 409}


def test_a_service_without_routes_has_a_document() -> None:
    app = FastAPI()
    openapi.install(app, OpenAPISettings(), owner="Ada", tags={})
    assert "Problem" in app.openapi()["components"]["schemas"]
