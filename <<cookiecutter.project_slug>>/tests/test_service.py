"""What holds for this service whatever its features; the checks come with the kit."""

from pathlib import Path

import pytest
import yaml
from fastapi import FastAPI

from app import about
from app.main import create_app
from app.settings import Settings
from slipway_kit.testing import checks

SERVICE = Path(__file__).parents[1]
CHART = SERVICE / "chart"
ENVIRONMENTS = sorted(CHART.glob("values-*.yaml"))


def test_the_document_of_the_api_changes_only_on_purpose(app: FastAPI) -> None:
    assert checks.document(app, SERVICE / "tests/openapi.json") == []


def test_every_route_keeps_the_rules(app: FastAPI) -> None:
    assert checks.routes(app) == []


def test_migrations_go_up_and_down_and_make_what_the_models_say(empty_url: str) -> None:
    assert checks.migrations(empty_url, SERVICE / "migrations") == []


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda path: path.stem)
def test_the_chart_of_each_environment_fits_the_service(environment: Path) -> None:
    assert checks.chart(environment, create_app, Settings.load) == []


def test_the_chart_runs_the_image_of_this_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert (chart["name"], chart["appVersion"]) == (about.SLUG, about.VERSION)
    assert chart["annotations"]["image"] == about.IMAGE


def test_the_kit_is_unedited_and_knows_the_libraries_that_are_locked() -> None:
    assert checks.kit() == []


def test_every_promise_has_its_test() -> None:
    assert checks.promises(SERVICE / "docs/contract.md", SERVICE) == []


def test_it_starts_answers_and_leaves_in_order(migrated_url: str) -> None:
    assert checks.start(SERVICE, migrated_url) == []
