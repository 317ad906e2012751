from typing import Any

import pytest
from fastapi import FastAPI
from pydantic import BaseModel
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR

from slipway_kit.config.group import read
from slipway_kit.errors import SettingsError
from slipway_kit.http import openapi
from slipway_kit.http.openapi import OpenAPISettings
from slipway_kit.http.streams import EventStream

EVENTS = "text/event-stream"


class Pot(BaseModel):
    litres: int


def garden(settings: OpenAPISettings | None = None, **tags: str) -> FastAPI:
    """A small API that Ada owns."""
    app = FastAPI(title="Garden", generate_unique_id_function=openapi.operation_id)

    @app.put("/pots/{number}", tags=list(tags), responses=openapi.problems(404))
    async def move_pot(number: int, pot: Pot) -> Pot:
        return pot

    openapi.install(app, settings or OpenAPISettings(), owner="Ada", tags=tags)
    return app


def test_without_settings_the_owner_is_the_contact_and_nothing_is_made_up() -> None:
    document = garden().openapi()
    assert document["info"] == {
        "title": "Garden",
        "version": "0.1.0",
        "contact": {"name": "Ada"},
    }
    assert "servers" not in document
    assert "tags" not in document


def test_settings_tell_of_contact_licence_terms_servers_and_logo(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {
        "CONTACT_NAME": "Grace",
        "CONTACT_EMAIL": "grace@example.org",
        "CONTACT_URL": "https://example.org/grace",
        "LICENSE_NAME": "Apache 2.0",
        "LICENSE_IDENTIFIER": "Apache-2.0",
        "TERMS_URL": "https://example.org/terms",
        "SERVERS": "https://a.example, /b",
        "LOGO_URL": "https://example.org/logo.png",
    }.items():
        monkeypatch.setenv(f"OPENAPI_{name}", value)
    document = garden(read(OpenAPISettings)).openapi()
    assert document["info"] == {
        "title": "Garden",
        "version": "0.1.0",
        "contact": {
            "name": "Grace",
            "email": "grace@example.org",
            "url": "https://example.org/grace",
        },
        "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"},
        "termsOfService": "https://example.org/terms",
        "x-logo": {"url": "https://example.org/logo.png", "altText": "Garden"},
    }
    assert document["servers"] == [{"url": "https://a.example"}, {"url": "/b"}]
    OPENAPI_31_VALIDATOR.validate(document)


def test_a_licence_may_have_a_page_instead_of_an_identifier() -> None:
    settings = OpenAPISettings(license_name="Ours", license_url="https://example.org/licence")
    assert garden(settings).openapi()["info"]["license"] == {
        "name": "Ours",
        "url": "https://example.org/licence",
    }


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        (
            {"CONTACT_URL": "example.org"},
            "OPENAPI_CONTACT_URL is 'example.org': it must be a URL like https://example.org/about.",
        ),
        (
            {"LOGO_URL": "//example.org/logo.png"},
            (
                "OPENAPI_LOGO_URL is '//example.org/logo.png':"
                " it must be a URL like https://example.org/about."
            ),
        ),
        (
            {"LICENSE_IDENTIFIER": "MIT"},
            "OPENAPI_LICENSE_IDENTIFIER and OPENAPI_LICENSE_URL need OPENAPI_LICENSE_NAME.",
        ),
        (
            {
                "LICENSE_NAME": "MIT",
                "LICENSE_IDENTIFIER": "MIT",
                "LICENSE_URL": "https://example.org/mit",
            },
            "Set OPENAPI_LICENSE_IDENTIFIER or OPENAPI_LICENSE_URL, not both.",
        ),
    ],
)
def test_settings_that_make_no_sense_are_one_sentence(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], sentence: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"OPENAPI_{name}", value)
    with pytest.raises(SettingsError) as caught:
        read(OpenAPISettings)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("name", "value"), [("SERVERS", "https://a.example,shop"), ("CONTACT_EMAIL", "grace")]
)
def test_a_server_and_an_address_must_look_like_one(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"OPENAPI_{name}", value)
    with pytest.raises(SettingsError, match=f"^OPENAPI_{name}"):
        read(OpenAPISettings)


def test_tags_say_what_they_are_about() -> None:
    assert garden(pots="Where things grow.").openapi()["tags"] == [
        {"name": "pots", "description": "Where things grow."}
    ]


def put_pot(document: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = document["paths"]["/pots/{number}"]["put"]
    return operation


def test_an_operation_is_named_like_its_function() -> None:
    assert put_pot(garden().openapi())["operationId"] == "move_pot"


def test_the_problems_of_an_operation_replace_the_frameworks_own() -> None:
    document = garden().openapi()
    assert list(put_pot(document)["responses"]) == [
        *("200", "400", "404", "408", "413", "422", "500", "503", "504")
    ]
    assert document["components"]["schemas"].keys() == {"FieldError", "Pot", "Problem"}


def test_an_event_of_a_stream_is_not_called_a_string() -> None:
    app, news = garden(), openapi.answer(200, media_type=EVENTS, example="data: rain\n\n")

    @app.get("/news", response_class=EventStream, responses=news)
    async def tell_news() -> None: ...

    content = app.openapi()["paths"]["/news"]["get"]["responses"]["200"]["content"]
    assert content == {EVENTS: {"example": "data: rain\n\n"}}


def test_the_document_is_built_once_and_again_when_a_route_comes() -> None:
    app = garden()
    first = app.openapi()
    assert app.openapi() is first
    app.add_api_route("/weeds", lambda: None, name="pull_weeds")
    later = app.openapi()
    assert "422" not in later["paths"]["/weeds"]["get"]["responses"]
    assert list(put_pot(later)["responses"]) == list(put_pot(first)["responses"])


def test_the_headers_of_an_answer_are_documented() -> None:
    app = FastAPI()
    more = openapi.answer(200, headers={"Age": "its age in seconds"})
    app.add_api_route("/weeds", lambda: None, responses=more)
    told = app.openapi()["paths"]["/weeds"]["get"]["responses"]["200"]
    assert told["headers"] == {
        "Age": {"description": "its age in seconds", "schema": {"type": "string"}}
    }
    assert "application/json" in told["content"]
