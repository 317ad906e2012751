"""What FastAPI finds out once is what it finds out each time."""

import functools
import inspect
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any, Literal

import pytest
from fastapi import (
    APIRouter,
    Body,
    Cookie,
    Depends,
    FastAPI,
    File,
    Form,
    Header,
    Path,
    Query,
    Security,
    UploadFile,
    WebSocket,
    routing,
)
from fastapi.dependencies import utils
from fastapi.dependencies.utils import get_dependant
from fastapi.security import SecurityScopes
from fastapi.telemetry._asgi import NativeTelemetry
from fastapi.testclient import TestClient
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import AliasChoices, BaseModel, Json, StringConstraints
from starlette.routing import Match

from slipway_kit.fast import fastapi_memo

# Of a module, types know less than there is.
FASTAPI: Any = utils
ROUTING: Any = routing
INCLUDED: Any = routing._IncludedRouter
NAMES = (
    *("_get_param_aliases", "_get_param_model", "_is_json_field"),
    "field_annotation_is_sequence",
    *("_is_gen_callable", "_is_async_gen_callable", "_is_coroutine_callable", "_get_cache_key"),
)
CALLS = ("_is_gen_callable", "_is_async_gen_callable", "_is_coroutine_callable")


class Filters(BaseModel):
    first_name: str = "x"
    tags: list[str] = []


async def asks_for_everything(
    number: Annotated[int, Path()],
    plain: str,
    some: Annotated[list[int], Query(alias="any")],
    odd: Annotated[list[Annotated[str, {"cannot": "be kept"}]], Query()],
    either: Annotated[str | None, Query(validation_alias=AliasChoices("one", "other"))] = None,
    text: Annotated[Json[list[int]] | None, Query()] = None,
    filters: Annotated[Filters | None, Header()] = None,
    x_token: Annotated[str | None, Header()] = None,
    kind: Annotated[Literal["a", "b"] | None, Cookie()] = None,
    short: Annotated[str, StringConstraints(max_length=3), Query()] = "x",
) -> None:
    """Take parameters of every kind."""


async def asks_for_a_form(
    name: Annotated[str, Form()], files: Annotated[list[UploadFile], File()]
) -> None:
    """Take the fields of a form."""


def fields() -> Iterator[Any]:
    for route in (asks_for_everything, asks_for_a_form):
        found = get_dependant(path="/{number}", call=route)
        yield from (*found.path_params, *found.query_params, *found.header_params)
        yield from (*found.cookie_params, *found.body_params)


@pytest.fixture
def _as_before() -> Iterator[None]:
    """Have the memory on again, where an app of an earlier test had it on."""
    enabled = bool(fastapi_memo._path._originals)
    fastapi_memo.disable()
    yield
    if enabled:
        fastapi_memo.enable()


@pytest.fixture
def original(_as_before: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Give FastAPI's own functions, as they are now; what a test enables is taken back.

    What it patches is taken back after that, and only then the memory is on again.
    """
    yield {name: getattr(FASTAPI, name) for name in NAMES}
    fastapi_memo.disable()


def test_every_answer_is_that_of_fastapi_the_second_time_too(original: dict[str, Any]) -> None:
    fastapi_memo.enable()
    asked = list(fields())
    assert len(asked) == 12
    for field in [*asked, *asked]:
        annotation = field.field_info.annotation
        is_sequence = original["field_annotation_is_sequence"](annotation)
        assert FASTAPI.field_annotation_is_sequence(annotation) == is_sequence
        assert FASTAPI._get_param_model(field) is original["_get_param_model"](field)
        assert FASTAPI._is_json_field(field) == original["_is_json_field"](field)
        for dashes in (True, False):
            options = {"convert_underscores": dashes}
            names = original["_get_param_aliases"](field, **options)
            assert FASTAPI._get_param_aliases(field, **options) == names


class Equal:
    """Is another's equal, and no generator though that is."""

    def __init__(self, call: Any) -> None:
        self._call = call

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Equal)

    def __hash__(self) -> int:
        return 1

    @property
    def __wrapped__(self) -> Any:
        return self._call


async def generates() -> AsyncIterator[int]:
    yield 1


def generates_plainly() -> Iterator[int]:
    yield 1


def returns() -> None:
    """Do nothing."""


async def returns_later() -> None:
    """Do nothing."""


@pytest.mark.parametrize("name", CALLS)
def test_whatever_is_called_is_what_it_is(original: dict[str, Any], name: str) -> None:
    fastapi_memo.enable()
    plain = [generates, generates_plainly, returns, returns_later, functools.partial(generates)]
    for call in 2 * [*plain, *map(Equal, plain), Equal, None]:
        assert getattr(FASTAPI, name)(call) == original[name](call)
        assert getattr(ROUTING, name)(call) == original[name](call)


def test_a_dependency_has_the_key_that_fastapi_gives_it(original: dict[str, Any]) -> None:
    async def asks(
        plain: Annotated[None, Depends(returns)],
        scoped: Annotated[None, Security(returns_later, scopes=["b", "a"])],
        function: Annotated[int, Depends(generates, scope="function")],
    ) -> None:
        del plain, scoped, function

    fastapi_memo.enable()
    found = get_dependant(path="/", call=asks).dependencies
    assert len(found) == 3
    for dependant in [*found, *found]:
        key = original["_get_cache_key"](dependant=dependant)
        assert FASTAPI._get_cache_key(dependant=dependant, uses_scopes_cache={}) == key


def test_dependencies_that_are_new_each_time_are_not_kept_for_ever(
    original: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fastapi_memo, "_MAX_CACHED", 4)
    fastapi_memo.enable()
    for number in range(10):
        made = get_dependant(path="/", call=returns, name=f"{number}")
        key = original["_get_cache_key"](dependant=made)
        assert FASTAPI._get_cache_key(dependant=made) == key
    known = inspect.getclosurevars(FASTAPI._get_cache_key).nonlocals["known"]
    assert len(inspect.getclosurevars(known).nonlocals["known"]) <= 4


def test_a_field_is_asked_about_once(
    original: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def field_annotation_is_sequence(annotation: object) -> bool:
        asked.append(annotation)
        return bool(original["field_annotation_is_sequence"](annotation))

    monkeypatch.setattr(FASTAPI, "field_annotation_is_sequence", field_annotation_is_sequence)
    fastapi_memo.enable()
    app = FastAPI()

    @app.get("/")
    async def route(several: Annotated[list[int], Query()]) -> list[int]:
        return several

    with TestClient(app) as client:
        for number in range(3):
            assert client.get(f"/?several={number}&several=7").json() == [number, 7]
    assert asked == [list[int]]


def routes() -> FastAPI:
    """Return an app with routers in routers, of which some have the same paths."""
    app, outer, inner, second = FastAPI(), APIRouter(), APIRouter(), APIRouter()

    @inner.get("/things/{number}")
    async def thing(number: int) -> str:
        return f"thing {number}"

    @outer.get("/things/new")
    async def new() -> str:
        return "new"

    @second.delete("/things/{number}")
    async def delete(number: int) -> str:
        return f"no thing {number}"

    @second.get("/{rest:path}")
    async def rest(rest: str) -> str:
        return rest

    @second.websocket("/socket/{name}")
    async def socket(websocket: WebSocket, name: str) -> None:
        await websocket.accept()
        await websocket.send_text(name)
        await websocket.close()

    outer.include_router(inner, prefix="/inner")
    app.include_router(outer, prefix="/v1")
    app.include_router(second, prefix="/v1/inner")
    app.include_router(inner, prefix="/v2")
    return app


def test_a_request_finds_the_same_route(original: dict[str, Any]) -> None:
    paths = (
        *("/v1/things/new", "/v1/things/new/", "/v1/inner/things/5", "/v1/inner/things/word"),
        *("/v1/inner/a/b", "/v2/things/7", "/v2/nothing", "/nothing"),
    )

    def answers() -> list[Any]:
        with TestClient(routes()) as client:
            found: list[Any] = []
            for path in paths:
                for method in ("GET", "DELETE", "PUT"):
                    answer = client.request(method, path)
                    found.append((answer.status_code, answer.headers.get("allow"), answer.text))
            with client.websocket_connect("/v1/inner/socket/x") as socket:
                return [*found, socket.receive_text()]

    before = answers()
    fastapi_memo.enable()
    assert answers() == before
    assert {answer[0] for answer in before[:-1]} == {200, 404, 405, 422}
    assert before[-1] == "x"


def test_a_route_is_looked_for_once(
    original: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    own, searched = INCLUDED._match, []

    def _match(self: object, scope: dict[str, Any]) -> object:
        searched.append(scope["path"])
        return own(self, scope)

    monkeypatch.setattr(INCLUDED, "_match", _match)
    fastapi_memo.enable()
    with TestClient(routes()) as client:
        assert client.get("/v1/things/new").text == '"new"'
        assert client.get("/v1/things/new").text == '"new"'
    assert searched == ["/v1/things/new"] * 2


def test_what_was_found_for_another_path_is_not_taken(original: dict[str, Any]) -> None:
    fastapi_memo.enable()
    (outer, *_) = (route for route in routes().routes if isinstance(route, INCLUDED))
    scope: dict[str, Any] = {"type": "http", "method": "GET", "path": "/v1/things/new"}
    match, *_ = outer._match(scope)
    assert match is Match.FULL
    scope["path"] = "/v1/things/none"
    match, *_ = outer._match(scope)
    assert match is Match.NONE


def spans_of(**settings: Any) -> set[str]:
    """Return the names of the spans that FastAPI makes of a request."""
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    telemetry: Any = {"tracer_provider": provider, **settings}
    app = FastAPI(telemetry=telemetry)

    @app.get("/")
    async def route() -> str:
        return "x"

    with TestClient(app) as client:
        client.get("/")
    return {span.name for span in exporter.get_finished_spans()}


def test_telemetry_is_looked_for_once_there_is_some(
    original: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    own, looked = ROUTING._operation, []

    def _operation(*, name: str, function: object = None) -> object:
        looked.append(name)
        return own(name=name, function=function)

    before = spans_of()
    assert len(before) > 1
    monkeypatch.setattr(ROUTING, "_operation", _operation)
    fastapi_memo.enable()
    assert spans_of(tracing=False, metrics=False, logs=False) == set()
    assert not looked
    assert spans_of() == before
    assert looked


def test_a_request_gets_the_same_answer(original: dict[str, Any]) -> None:
    app = FastAPI()

    @app.post("/{number}")
    async def route(
        number: int,
        some: Annotated[list[Annotated[int, {"cannot": "be kept"}]], Query()],
        body: Annotated[dict[str, int], Body()],
        x_token: Annotated[str, Header()],
    ) -> dict[str, Any]:
        return {"number": number, "some": some, "body": body, "token": x_token}

    def answers() -> list[Any]:
        with TestClient(app) as client:
            asked: dict[str, Any] = {"json": {"a": 1}, "headers": {"x-token": "t"}}
            return [
                client.post(path, **asked).json()
                for path in ("/1?some=2&some=3", "/1", "/word?some=word")
            ]

    before = answers()
    fastapi_memo.enable()
    assert [answers(), answers()] == [before, before]
    assert before[0] == {"number": 1, "some": [2, 3], "body": {"a": 1}, "token": "t"}


def test_what_a_route_depends_on_gives_it_the_same(original: dict[str, Any]) -> None:
    app, left = FastAPI(), list[str]()

    def plain(number: int) -> int:
        return number

    async def generates(same: Annotated[int, Depends(plain)]) -> AsyncIterator[int]:
        yield same + 1
        left.append("generator")

    async def guarded(scopes: SecurityScopes) -> list[str]:
        return scopes.scopes

    @app.get("/")
    async def route(
        one: Annotated[int, Depends(plain)],
        two: Annotated[int, Depends(generates, scope="function")],
        a: Annotated[list[str], Security(guarded, scopes=["a"])],
        b: Annotated[list[str], Security(guarded, scopes=["b"])],
    ) -> list[Any]:
        return [one, two, a, b]

    def answers() -> list[Any]:
        with TestClient(app) as client:
            return [client.get(f"/?number={number}").json() for number in (1, 5)]

    before = answers()
    fastapi_memo.enable()
    assert [answers(), answers()] == [before, before]
    assert before == [[1, 2, ["a"], ["b"]], [5, 6, ["a"], ["b"]]]
    assert len(left) == 6


def test_twice_is_once_and_is_taken_back(original: dict[str, Any]) -> None:
    own = functions()
    for _ in range(2):
        fastapi_memo.enable()
        kept = functions()
        assert not set(own.values()) & set(kept.values())
        assert {inspect.unwrap(each) for each in kept.values()} == set(own.values())
    fastapi_memo.disable()
    assert functions() == own


def functions() -> dict[tuple[Any, str], Any]:
    """Return all that is replaced, as it is now."""
    places = [
        *((FASTAPI, name) for name in NAMES),
        *((ROUTING, name) for name in ("_operation", "get_telemetry_data")),
        *((INCLUDED, "_match"), (NativeTelemetry, "__call__")),
    ]
    return {(owner, name): getattr(owner, name) for owner, name in places}


def other(field: object, more: object) -> None:
    """Ask for more."""


PRIVATE = [
    *((FASTAPI, name) for name in NAMES),
    *((ROUTING, name) for name in ("_operation", "get_telemetry_data")),
    *((INCLUDED, name) for name in ("_match", "_handle_selected")),
    (NativeTelemetry, "__call__"),
]


@pytest.mark.parametrize(("owner", "name"), PRIVATE, ids=[name for _, name in PRIVATE])
def test_a_fastapi_that_asks_otherwise_is_not_supported(
    original: dict[str, Any], owner: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fastapi_memo.supported()
    monkeypatch.setattr(owner, name, other)
    assert not fastapi_memo.supported()
    monkeypatch.delattr(owner, name)
    assert not fastapi_memo.supported()


def test_a_fastapi_whose_routers_are_included_otherwise_is_not_supported(
    original: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(routing, "_IncludedRouter")
    assert not fastapi_memo.supported()
