"""Each environment's release adds up, and the service starts with what the chart gives it."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi.routing import iter_route_contexts

from app import about
from app.main import create_app
from app.settings import Settings
from slipway_kit.capacity import values as chart
from slipway_kit.capacity.sums import verdict
from slipway_kit.dev import programs
from slipway_kit.testing.values import merged

SERVICE = Path(__file__).parents[2]
CHART = SERVICE / "chart"
ENVIRONMENTS = sorted(CHART.glob("values-*.yaml"))
URL = "postgresql://user:password@postgres/name"

Objects = dict[str, list[dict[str, Any]]]


def helm(*arguments: str | Path) -> str:
    """Run helm, which `make setup` installs, and fail with what it says."""
    return programs.run(["helm", *map(str, arguments)])


@pytest.fixture(params=ENVIRONMENTS, ids=lambda path: path.stem.removeprefix("values-"))
def environment(request: pytest.FixtureRequest) -> Path:
    """Each environment's file of values in turn."""
    path: Path = request.param
    return path


@pytest.fixture
def objects(environment: Path) -> Objects:
    """What helm makes for an environment, by kind."""
    found: Objects = {}
    for each in yaml.safe_load_all(helm("template", "here", CHART, "--values", environment)):
        found.setdefault(each["kind"], []).append(each)
    return found


@pytest.fixture
def settings(objects: Objects, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The service's settings in a pod of an environment."""
    for name in list(os.environ):
        monkeypatch.delenv(name)
    (given,) = (each["data"] for each in objects["ConfigMap"] if "PORT" in each["data"])
    for name, value in (given | {"DATABASE_URL": URL}).items():
        monkeypatch.setenv(name, value)
    return Settings.load()


def container(objects: Objects) -> dict[str, Any]:
    """Return the service's own container."""
    (deployment,) = objects["Deployment"]
    found: dict[str, Any] = deployment["spec"]["template"]["spec"]["containers"][0]
    return found


def test_there_is_a_file_for_each_environment() -> None:
    assert [path.stem.removeprefix("values-") for path in ENVIRONMENTS] >= ["dev", "production"]


def test_helm_finds_nothing_wrong(environment: Path) -> None:
    helm("lint", "--strict", CHART, "--values", environment)


def test_the_service_starts_with_the_settings_of_its_pods(settings: Settings) -> None:
    assert settings.server.production
    assert settings.server.host == "0.0.0.0"
    assert create_app(settings).openapi_url == (
        "/openapi.json" if settings.server.serves_docs else None
    )


def test_ports_are_those_that_the_service_listens_on(objects: Objects, settings: Settings) -> None:
    ports = {each["name"]: each["containerPort"] for each in container(objects)["ports"]}
    assert ports == {"http": settings.server.port, "metrics": settings.server.metrics_port}


def test_probes_ask_for_routes_of_the_service(objects: Objects, settings: Settings) -> None:
    routes = {route.path for route in iter_route_contexts(create_app(settings).routes)}
    asked = [container(objects)[f"{kind}Probe"] for kind in ("startup", "liveness", "readiness")]
    assert {probe["httpGet"]["path"] for probe in asked} <= routes


def test_python_m_app_capacity_says_the_same_as_helm(environment: Path) -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    own = yaml.safe_load(environment.read_text(encoding="utf-8")) or {}
    answer = verdict(chart.limits(json.loads(json.dumps(merged(values, own)))))
    assert answer["accepted"], answer["problems"]


def test_the_image_is_the_one_that_make_image_builds() -> None:
    written = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert (written["name"], written["appVersion"]) == (about.SLUG, about.VERSION)
    assert written["annotations"]["image"] == about.IMAGE
