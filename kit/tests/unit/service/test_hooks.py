"""Every example of docs/hooks.md does what the page says."""

import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.testclient import TestClient
from prometheus_client import REGISTRY
from pydantic import Field
from structlog.stdlib import get_logger

from app import about
from kit.tests.support.collector import open_collector
from kit.tests.support.tracing import untouched_tracing
from slipway_kit.config.server import ServerSettings
from slipway_kit.dev.settings_table import by_owner
from slipway_kit.errors import Conflict
from slipway_kit.http.probes import NotReady
from slipway_kit.runtime import runtime_of
from slipway_kit.service import ServiceSettings, assemble, resources

pytestmark = pytest.mark.usefixtures("restored_logs")

PAGE = Path(__file__).parents[4] / "kit/docs/hooks.md"
STANDARD = {
    "database": resources.database,
    "offload": resources.offload,
    "http client": resources.http_client,
    "tasks": resources.tasks,
}
router = APIRouter()


@router.get("/words")
async def words() -> list[str]:
    return ["word"] * 500


@router.get("/taken")
async def taken() -> None:
    raise Conflict("It is taken.")


@router.get("/logged")
async def logged() -> None:
    get_logger().info("asked", email="ada@example.org")


@cache
def example(title: str) -> dict[str, Any]:
    """Run the example of a section and return the names that it makes."""
    _, section = PAGE.read_text().split(f"\n## {title}\n")
    code = section.partition("```python\n")[2].partition("```")[0]
    # What is sent to another process is found by its module's name.
    module = ModuleType(f"example_{title.replace(' ', '_').lower()}")
    sys.modules[module.__name__] = module
    exec(compile(code, f"{PAGE.name}: {title}", "exec", dont_inherit=True), vars(module))
    return vars(module)


@pytest.fixture
def feature(monkeypatch: pytest.MonkeyPatch) -> None:
    """The routes of this module are those of the only feature."""
    routes = {"hooked": SimpleNamespace(router=router)}
    monkeypatch.setattr("slipway_kit.service.assembly.import_routes", lambda _: routes)


def service(settings: ServiceSettings | None = None, **hooks: Any) -> FastAPI:
    settings = settings or ServiceSettings(server=ServerSettings(metrics_port=0))
    arguments: dict[str, Any] = {
        "about": about,
        "features": ["hooked"],
        "resources": STANDARD,
    } | hooks
    return assemble(settings, **arguments)


@contextmanager
def running(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.mark.usefixtures("feature")
class TestHooks:
    def test_middleware_is_around_the_routes_and_within_that_of_the_library(self) -> None:
        with running(service(middleware=example("Middleware")["MIDDLEWARE"])) as client:
            answer = client.get("/api/v1/words", headers={"accept-encoding": "gzip"})
        assert answer.headers["content-encoding"] == "gzip"
        assert answer.headers["x-request-id"]

    def test_a_resource_is_found_by_its_type_while_the_service_runs(self) -> None:
        names = example("Resources")
        app = service(resources={**STANDARD, "mailer": names["open_mailer"]})

        async def closed(mailer: Any) -> bool:
            return bool(mailer.closed)

        closed.__annotations__["mailer"] = names["MailerDep"]
        app.add_api_route("/mailer", closed)
        with running(app) as client:
            assert client.get("/mailer").json() is False
        assert runtime_of(app).get(names["Mailer"]).closed is True

    def test_a_group_of_settings_is_read_checked_and_listed(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        names = example("Settings")
        monkeypatch.setenv("MAIL_HOST", "mail.example.org")
        settings = names["Settings"].load()
        found = runtime_of(service(settings)).get(names["MailSettings"])
        assert found.host == "mail.example.org"
        assert [each.name for each in by_owner(names["Settings"])["service"]] == ["MAIL_HOST"]

    def test_a_handler_gives_errors_another_shape(self) -> None:
        app = service()
        app.add_exception_handler(Conflict, example("Errors")["answer_error"])
        with running(app) as client:
            answer = client.get("/api/v1/taken")
        assert (answer.status_code, answer.json()) == (409, {"error": "It is taken."})

    def test_a_log_processor_is_asked_for_every_line(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        server = ServerSettings(metrics_port=0, log_format="json")
        processors = example("Log processors")["LOG_PROCESSORS"]
        app = service(ServiceSettings(server=server), log_processors=processors)
        with running(app) as client:
            client.get("/api/v1/logged")
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [line["email"] for line in lines if line["event"] == "asked"] == ["***"]
        assert [line["status"] for line in lines if line["event"] == "request"] == [200]

    def test_an_attribute_is_on_the_span_of_the_request(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with open_collector() as collector, untouched_tracing():
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
            app = service(dependencies=example("Span attributes")["DEPENDENCIES"])
            with running(app) as client:
                client.get("/api/v1/words", headers={"x-tenant": "acme"})
        [span] = [each for each in collector.received if each.name == "GET /api/v1/words"]
        assert span.attributes["tenant"] == "acme"

    def test_a_metric_is_served_with_the_others(self) -> None:
        example("Metrics")["note_sent"]("welcome")
        assert REGISTRY.get_sample_value("mails_sent_total", {"kind": "welcome"}) == 1

    @pytest.mark.parametrize(
        ("headers", "status"),
        [
            ({}, 401),
            ({"authorization": "Bearer wrong"}, 401),
            ({"authorization": "Bearer open sesame"}, 200),
        ],
    )
    def test_a_dependency_guards_every_route_of_the_features_and_no_probe(
        self, headers: dict[str, str], status: int
    ) -> None:
        names = example("Authentication")
        app = service(with_field(names["TokenSettings"]), dependencies=names["DEPENDENCIES"])
        with running(app) as client:
            answer = client.get("/api/v1/words", headers=headers)
            assert client.get("/livez").status_code == 200
        assert answer.status_code == status
        if status == 401:
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.headers["www-authenticate"] == "Bearer"
        assert "security" in app.openapi()["paths"]["/api/v1/words"]["get"]

    def test_a_check_keeps_the_worker_out_of_the_service_and_says_why(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def fits(*_: object) -> None: ...

        monkeypatch.setattr("slipway_kit.service.assembly.SchemaCheck.__call__", fits)
        with running(service(checks=example("Readiness checks")["CHECKS"])) as client:
            answer = client.get("/readyz")
        assert answer.status_code == NotReady.status
        assert answer.json()["detail"] == "The queue has no room."

    def test_a_change_is_in_the_document_of_the_api(self) -> None:
        app = service(openapi_changes=example("The OpenAPI document")["OPENAPI_CHANGES"])
        assert app.openapi()["info"]["x-gateway"] == {"plan": "free"}


def with_field(group: Callable[[], Any]) -> ServiceSettings:
    """Return settings with one more group."""

    class Settings(ServiceSettings):
        own: group = Field(default_factory=group)  # type: ignore[valid-type]

    return Settings(server=ServerSettings(metrics_port=0))


def test_every_section_of_the_page_has_an_example_that_a_test_runs() -> None:
    titles = re.findall(r"^## (.*)$", PAGE.read_text(), re.MULTILINE)
    own = Path(__file__).read_text()
    assert [title for title in titles if f'example("{title}")' not in own] == []
