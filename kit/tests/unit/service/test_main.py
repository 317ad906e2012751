"""The composition: nothing happens at import, and two apps share nothing."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest
from fastapi import APIRouter, FastAPI
from prometheus_client import CollectorRegistry
from pydantic_settings import SettingsConfigDict

import app.main
import app.settings
from app.enabled import FEATURES
from app.main import create_app
from app.settings import Settings
from kit.tests.support.paths import SERVICE
from slipway_kit.config.group import Group
from slipway_kit.config.server import ServerSettings
from slipway_kit.db import Database
from slipway_kit.db.settings import DatabaseSettings
from slipway_kit.errors import SettingsError
from slipway_kit.http import Drain
from slipway_kit.runtime import runtime_of

IMPORT_EVERYTHING = """
import pkgutil, sys, threading
import sqlalchemy.ext.asyncio as engines

def refuse(event, arguments):
    if event.startswith(("socket.connect", "socket.bind", "subprocess.", "os.fork", "os.mkdir")):
        raise AssertionError(f"{event} while the app is imported")

def no_engine(*arguments, **keywords):
    raise AssertionError("an engine while the app is imported")

sys.addaudithook(refuse)
engines.create_async_engine = no_engine
import app, slipway_kit
for module in [
    *pkgutil.walk_packages(app.__path__, "app."),
    *pkgutil.walk_packages(slipway_kit.__path__, "slipway_kit."),
]:
    if not module.name.endswith("__main__"):
        __import__(module.name)
assert threading.active_count() == 1
import prometheus_client
assert not [m for m in prometheus_client.REGISTRY.collect() if m.name.startswith("http_request")]
print("imported", len([name for name in sys.modules if name.startswith(("app.", "slipway_kit."))]))
"""


def test_import_opens_no_socket_makes_no_engine_and_starts_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-B", "-W", "error", "-c", IMPORT_EVERYTHING],
        cwd=SERVICE,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[1]) > 20


IMPORT_EARLY = """
import asyncio, sys
import anyio
from slipway_kit.config.server import ServerSettings
from slipway_kit.tracing.provider import TracingSettings
from app.main import create_app
from app.settings import Settings

traces = TracingSettings(exporter_otlp_endpoint="http://127.0.0.1:9")
app = create_app(Settings(server=ServerSettings(metrics_port=0), tracing=traces))
anyio.run(anyio.sleep, 0)
before = set(sys.modules)

async def serve():
    async with app.router.lifespan_context(app):
        pass
asyncio.run(serve())
print(*set(sys.modules) - before)
"""


def test_a_worker_imports_nothing_that_the_master_could_have_imported_for_all() -> None:
    done = subprocess.run(
        [sys.executable, "-B", "-c", IMPORT_EARLY],
        cwd=SERVICE,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    later = {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}
    assert later <= sys.stdlib_module_names


def test_import_writes_no_metrics_to_a_folder_that_no_master_has_claimed(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-B", "-c", IMPORT_EVERYTHING],
        cwd=SERVICE,
        env={"PATH": os.environ["PATH"], "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_two_apps_of_one_process_share_nothing() -> None:
    small = create_app(Settings(server=ServerSettings(max_body_bytes=10)))
    large = create_app(Settings(server=ServerSettings(max_body_bytes=1000)))
    of_small, of_large = runtime_of(small), runtime_of(large)
    assert of_small.get(ServerSettings).max_body_bytes == 10
    assert of_large.get(ServerSettings).max_body_bytes == 1000
    assert of_small.get(Drain) is not of_large.get(Drain)
    assert of_small.get(CollectorRegistry) is not of_large.get(CollectorRegistry)


def test_every_enabled_feature_has_routes_under_its_version() -> None:
    paths = create_app(Settings()).openapi()["paths"]
    assert all(path.startswith("/api/v1/") for path in paths)
    assert bool(paths) == bool(FEATURES)


@pytest.mark.parametrize(("enabled", "served"), [(True, True), (False, False), (None, False)])
def test_docs_are_off_in_production_unless_asked_for(*, enabled: bool | None, served: bool) -> None:
    server = ServerSettings(app_env="production", docs_enabled=enabled)
    app = create_app(Settings(server=server))
    assert (app.openapi_url is not None) is served


@pytest.mark.parametrize(
    ("server", "database", "sentence"),
    [
        (
            {"request_timeout_seconds": 8},
            {"pool_timeout_seconds": 3, "statement_timeout_ms": 6000},
            (
                "one query within a request, s: 3 pool timeout + 6 statement timeout = 9 > 8;"
                " lower DATABASE_POOL_TIMEOUT_SECONDS or DATABASE_STATEMENT_TIMEOUT_MS,"
                " or raise REQUEST_TIMEOUT_SECONDS."
            ),
        ),
        (
            {"request_timeout_seconds": 20},
            {},
            (
                "one request within the shutdown, s: 20 request timeout + 25.6 upload = 45.6 > 36;"
                " lower REQUEST_TIMEOUT_SECONDS or MAX_BODY_BYTES,"
                " or raise UPLOAD_MIN_BYTES_PER_SECOND or SHUTDOWN_SECONDS."
            ),
        ),
        (
            {"app_env": "production"},
            {"echo": True},
            "DATABASE_ECHO logs every statement; unset it in production.",
        ),
        (
            {"port": 9000},
            {},
            "PORT and METRICS_PORT are both 9000; change one of them.",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused_with_the_arithmetic(
    server: dict[str, object], database: dict[str, object], sentence: str
) -> None:
    settings = Settings(
        server=ServerSettings.model_validate(server),
        database=DatabaseSettings.model_validate(database),
    )
    with pytest.raises(SettingsError) as caught:
        settings.check()
    assert str(caught.value) == sentence


def test_an_outbound_call_that_outlasts_its_request_stops_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTP_CLIENT_TOTAL_TIMEOUT_SECONDS", "11")
    monkeypatch.setenv("HTTP_CLIENT_POOL_TIMEOUT_SECONDS", "10")
    with pytest.raises(SettingsError) as caught:
        Settings.load()
    assert str(caught.value).splitlines() == [
        (
            "one connection within an outbound call, s:"
            " 10 pool timeout + 2 connect timeout = 12 > 11;"
            " lower HTTP_CLIENT_POOL_TIMEOUT_SECONDS or HTTP_CLIENT_CONNECT_TIMEOUT_SECONDS,"
            " or raise HTTP_CLIENT_TOTAL_TIMEOUT_SECONDS."
        ),
        (
            "one outbound call within a request, s: 11 outbound timeout = 11 > 10;"
            " lower HTTP_CLIENT_TOTAL_TIMEOUT_SECONDS or raise REQUEST_TIMEOUT_SECONDS."
        ),
    ]


def test_the_environment_is_read_and_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "8123")
    monkeypatch.setenv("READINESS_REQUIRES_DATABASE", "true")
    settings = Settings.load()
    assert (settings.server.port, settings.readiness.requires_database) == (8123, True)
    monkeypatch.setenv("REQUEST_TIMEOUT_SECONDS", "20")
    with pytest.raises(SettingsError, match="or SHUTDOWN_SECONDS"):
        Settings.load()
    monkeypatch.setenv("REQUEST_TIMEOUT_SECOND", "20")
    with pytest.raises(SettingsError, match="was REQUEST_TIMEOUT_SECONDS meant"):
        Settings.load()


def test_problems_of_all_groups_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "high")
    monkeypatch.setenv("DATABASE_POOL_SIZE", "0")
    monkeypatch.setenv("DATABASE_POOL_SIZES", "3")
    with pytest.raises(SettingsError) as caught:
        Settings.load()
    names = [line.split()[0] for line in str(caught.value).splitlines()]
    assert names == ["DATABASE_POOL_SIZES", "PORT", "DATABASE_POOL_SIZE"]


class GardenSettings(Group):
    """How the garden is kept."""

    model_config = SettingsConfigDict(env_prefix="GARDEN_")

    beds: int = 2


@pytest.fixture
def garden(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A feature with settings and a lifespan of its own; what it did so far."""
    done: list[str] = []

    @asynccontextmanager
    async def lifespan(service: FastAPI) -> AsyncIterator[None]:
        beds = runtime_of(service).get(GardenSettings).beds
        assert isinstance(runtime_of(service).get(Database), Database)
        done.append(f"{beds} beds dug")
        yield
        done.append("beds covered")

    contents: dict[str, dict[str, object]] = {
        "routes": {"router": APIRouter(prefix="/beds"), "lifespan": lifespan},
        "settings": {"Settings": GardenSettings},
    }
    for name, attributes in contents.items():
        module = ModuleType(f"app.features.garden.{name}")
        module.__spec__ = ModuleSpec(module.__name__, None)
        vars(module).update(attributes)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(sys.modules, "app.features.garden", ModuleType("app.features.garden"))
    monkeypatch.setattr(app.main, "FEATURES", ("garden",))
    monkeypatch.setattr(Settings, "enabled", ("garden",))
    return done


@pytest.mark.anyio
async def test_a_feature_brings_its_settings_and_its_lifespan(
    garden: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GARDEN_BEDS", "3")
    monkeypatch.setenv("METRICS_PORT", "0")
    service = create_app(Settings.load())
    async with service.router.lifespan_context(service):
        assert garden == ["3 beds dug"]
    assert garden == ["3 beds dug", "beds covered"]


def test_a_mistake_in_the_settings_of_a_feature_is_told(
    garden: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GARDEN_BEDS", "many")
    monkeypatch.setenv("GARDEN_BED", "1")
    with pytest.raises(SettingsError) as caught:
        Settings.load()
    names = [line.split()[0] for line in str(caught.value).splitlines()]
    assert names == ["GARDEN_BED", "GARDEN_BEDS"]
