"""The answer to a refused request, the same in the protocol and in the middleware."""

import json
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from slipway_kit.config.server import ServerSettings
from slipway_kit.http.probes import Drain
from slipway_kit.http.refusals import AdmissionMiddleware, Refusals
from slipway_kit.overload.admission import Admission
from slipway_kit.overload.route_shedding import RouteShedding
from slipway_kit.testing.asgi import scope

ID = b"a-client's-own"


DETAIL = "Come back."


def refusals(**server: Any) -> Refusals:
    return Refusals(ServerSettings.model_validate(server))


def parsed(head: bytes) -> dict[bytes, bytes]:
    return {name: value for name, _, value in (x.partition(b": ") for x in head.splitlines())}


def headers_of(asked: Refusals, *pairs: tuple[bytes, bytes]) -> dict[bytes, bytes]:
    head, body = asked.answer(scope("/x") | {"headers": list(pairs)}, status=503, detail=DETAIL)
    found = parsed(head)
    assert len(found) == len(head.splitlines()), "each of them once"
    assert int(found[b"content-length"]) == len(body)
    return found


def test_it_is_a_problem_with_retry_after() -> None:
    head, body = refusals().answer(scope("/a b/ü\n"), status=503, detail=DETAIL)
    problem, found = json.loads(body), parsed(head)
    assert found[b"content-type"] == b"application/problem+json"
    assert found[b"retry-after"] == b"1"
    assert (problem["status"], problem["title"]) == (503, "Service Unavailable")
    assert problem["instance"] == "/a%20b/%C3%BC%0A"
    assert problem["request_id"].encode() == found[b"x-request-id"]
    assert found[b"x-content-type-options"] == b"nosniff"
    assert b"retry-after" not in parsed(
        refusals().answer(scope("/"), status=431, detail="Less.")[0]
    )


def test_a_valid_request_id_is_kept() -> None:
    assert headers_of(refusals(), (b"x-request-id", b"abc-1"))[b"x-request-id"] == b"abc-1"
    made = headers_of(refusals(), (b"x-request-id", ID))[b"x-request-id"]
    assert made != ID
    assert len(made) == 32


@pytest.mark.parametrize(
    ("origins", "origin", "allowed"),
    [
        ("https://a.example", b"https://a.example", b"https://a.example"),
        ("https://a.example", b"https://b.example", None),
        ("*", b"https://b.example", b"*"),
        ("", b"https://a.example", None),
    ],
)
def test_a_page_of_an_allowed_origin_may_read_it(
    origins: str, origin: bytes, allowed: bytes | None
) -> None:
    found = headers_of(refusals(cors_origins=origins), (b"origin", origin))
    assert found.get(b"access-control-allow-origin") == allowed


class Full(Admission):
    """Refuses everything."""

    def start_now(self) -> bool:
        return False

    def enqueue(self, start: object) -> bool:
        return False


async def never(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError("it was refused")


@pytest.mark.anyio
async def test_the_middleware_answers_in_place_of_the_app() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    drain = Drain()
    middleware = AdmissionMiddleware(
        never,
        admission=Full(),
        refusals=refusals(),
        drain=drain,
        shedding=RouteShedding(),
        always=frozenset({"/livez"}),
    )
    asked = scope("/x")
    await middleware(asked, never, send)  # type: ignore[arg-type]
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert sent[0]["status"] == 503
    status, detail = Refusals.OVERLOADED
    same = refusals().answer(asked | {"headers": sent[0]["headers"]}, status=status, detail=detail)
    assert sent[1]["body"] == same[1]
    drain.begin()
    await middleware(scope("/x"), never, send)  # type: ignore[arg-type]
    assert (b"connection", b"close") in sent[2]["headers"]
    with pytest.raises(AssertionError, match="it was refused"):
        await middleware(scope("/livez"), never, send)  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match="it was refused"):
        await middleware({"type": "lifespan"}, never, send)  # type: ignore[arg-type]
