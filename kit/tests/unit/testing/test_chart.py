import shutil
from pathlib import Path

import pytest
import yaml

from app.main import create_app
from app.settings import Settings
from kit.tests.support.paths import SERVICE
from slipway_kit.testing import checks

ENVIRONMENTS = sorted((SERVICE / "chart").glob("values-*.yaml"))


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda path: path.stem)
def test_each_environment_of_the_service_fits_it(environment: Path) -> None:
    assert checks.chart(environment, create_app, Settings.load) == []


@pytest.fixture
def chart(tmp_path: Path) -> Path:
    """A copy of the service's chart, to be broken."""
    return shutil.copytree(SERVICE / "chart", tmp_path / "chart", symlinks=False)


def faults(chart: Path, **values: object) -> list[str]:
    environment = chart / "values-test.yaml"
    environment.write_text(yaml.safe_dump(values), encoding="utf-8")
    return checks.chart(environment, create_app, Settings.load)


def edit(chart: Path, template: str, old: str, new: str) -> None:
    path = chart / "templates" / template
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_values_that_the_chart_refuses_are_found(chart: Path) -> None:
    [fault] = faults(chart, replicas=-1)
    assert fault.startswith("values-test.yaml: ")


def test_a_release_that_the_database_cannot_carry_is_found(chart: Path) -> None:
    assert faults(chart, replicas=50, database={"maxConnections": 10})


def test_settings_that_the_service_does_not_start_with_are_found(chart: Path) -> None:
    [fault] = faults(chart, config={"DATABASE_POOL_SIZES": "3"})
    assert "does not start with the settings of its pods: DATABASE_POOL_SIZES" in fault


def test_a_probe_that_asks_for_no_route_is_found(chart: Path) -> None:
    edit(chart, "deployment.yaml", "/readyz", "/ready")
    [fault] = faults(chart)
    assert "the readinessProbe asks for /ready, which is no route" in fault


def test_ports_that_the_service_does_not_listen_on_are_found(chart: Path) -> None:
    edit(chart, "deployment.yaml", "containerPort: 9000", "containerPort: 9100")
    [fault] = faults(chart)
    assert "the pods open" in fault
