"""The OpenAPI document: FastAPI's, with its owner and the problems that routes answer."""

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from fastapi import FastAPI
from fastapi.openapi.constants import REF_PREFIX
from pydantic import AfterValidator, Field, model_validator
from pydantic_settings import SettingsConfigDict

from slipway_kit.config.group import COMMAS, Group
from slipway_kit.http.problem_details import MEDIA_TYPE, Problem, title

# Generated clients name a method after the route's function.
operation_id = attrgetter("name")
_REFERENCE = f"{REF_PREFIX}{{model}}"
_REPLACED = ("HTTPValidationError", "ValidationError")


def _url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("it must be a URL like https://example.org/about")
    return value


def _url_or_path(value: str) -> str:
    return value if value.startswith("/") and not value.startswith("//") else _url(value)


Url = Annotated[str, AfterValidator(_url)]
UrlOrPath = Annotated[str, AfterValidator(_url_or_path)]


class OpenAPISettings(Group):
    """The document's contact, licence, servers and logo."""

    model_config = SettingsConfigDict(env_prefix="OPENAPI_")

    contact_name: str | None = Field(
        default=None, description="contact of the API; default: its owner"
    )
    contact_email: str | None = Field(
        default=None, pattern=r"^[^@\s]+@[^@\s]+$", description="email address of the contact"
    )
    contact_url: Url | None = Field(default=None, description="page of the contact")
    license_name: str | None = Field(
        default=None, description="licence of the API, like Apache 2.0; default: none is named"
    )
    license_identifier: str | None = Field(
        default=None, description="its SPDX identifier, like Apache-2.0, instead of the URL"
    )
    license_url: Url | None = Field(
        default=None, description="URL of its text, instead of the identifier"
    )
    terms_url: Url | None = Field(default=None, description="terms of service")
    servers: Annotated[tuple[UrlOrPath, ...], *COMMAS] = Field(
        default=(),
        description="where the API is served, URLs or paths; comma-separated; default: ROOT_PATH",
    )
    logo_url: UrlOrPath | None = Field(
        default=None, description="picture that ReDoc shows (x-logo), a URL or a path"
    )

    @model_validator(mode="after")
    def _one_license(self) -> Self:
        if self.license_identifier and self.license_url:
            raise ValueError("Set OPENAPI_LICENSE_IDENTIFIER or OPENAPI_LICENSE_URL, not both")
        if (self.license_identifier or self.license_url) and not self.license_name:
            raise ValueError(
                "OPENAPI_LICENSE_IDENTIFIER and OPENAPI_LICENSE_URL need OPENAPI_LICENSE_NAME"
            )
        return self

    def given(self, prefix: str) -> dict[str, str]:
        """Return the settings with a prefix, by the rest of their names, without the unset ones."""
        found = ((name, value) for name, value in self if name.startswith(prefix) and value)
        return {name.removeprefix(prefix): value for name, value in found}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Document the problems of a route, for `responses=`; the common ones are added."""
    return {int(status): _response(status) for status in statuses}


def answer(
    status: int,
    *,
    media_type: str | None = None,
    example: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> dict[int | str, dict[str, Any]]:
    """Document the headers of an answer or the example of a stream, for `responses=`."""
    more: dict[str, Any] = {}
    if headers:
        more["headers"] = {
            name: {"description": text, "schema": {"type": "string"}}
            for name, text in headers.items()
        }
    if media_type:
        more["content"] = {media_type: {"example": example}}
    return {status: more}


def install(
    app: FastAPI,
    settings: OpenAPISettings,
    *,
    owner: str,
    tags: Mapping[str, str],
    changes: Sequence[Callable[[dict[str, Any]], None]] = (),
) -> None:
    """Add owner, tags and problems to the document; each of `changes` may alter it in place."""
    app.contact = {"name": owner, **settings.given("contact_")}
    app.license_info = settings.given("license_")
    app.terms_of_service = settings.terms_url
    app.servers = [{"url": url} for url in settings.servers]
    app.openapi_tags = [{"name": name, "description": text} for name, text in tags.items()]
    build = app.openapi
    completed: dict[str, Any] | None = None

    def openapi() -> dict[str, Any]:
        nonlocal completed
        document = build()
        # FastAPI returns the same object until a route is added.
        if document is not completed:
            _complete(document, settings)
            for change in changes:
                change(document)
            completed = document
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI documents this way to extend it


def _complete(document: dict[str, Any], settings: OpenAPISettings) -> None:
    if settings.logo_url:
        info = document["info"]
        info["x-logo"] = {"url": settings.logo_url, "altText": info["title"]}
    for path in document.get("paths", {}).values():
        for operation in path.values():
            _describe(operation)
    problem = Problem.model_json_schema(mode="serialization", ref_template=_REFERENCE)
    components = document.setdefault("components", {})
    schemas = components.get("schemas", {}) | problem.pop("$defs") | {Problem.__name__: problem}
    for name in _REPLACED:
        schemas.pop(name, None)
    components["schemas"] = dict(sorted(schemas.items()))


def _describe(operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    responses.pop("422", None)
    for response in responses.values():
        # FastAPI's schema says that each event is a string.
        response.get("content", {}).get("text/event-stream", {}).pop("schema", None)
    # The problems common to all operations of this shape.
    statuses = {500, 503, 504}
    if "requestBody" in operation:
        statuses |= {400, 408, 413, 422}
    if operation.get("parameters"):
        statuses.add(422)
    for status in statuses:
        responses.setdefault(str(status), _response(status))
    operation["responses"] = dict(sorted(responses.items()))


def _response(status: int) -> dict[str, Any]:
    schema = {"$ref": _REFERENCE.format(model=Problem.__name__)}
    return {"description": title(status), "content": {MEDIA_TYPE: {"schema": schema}}}
