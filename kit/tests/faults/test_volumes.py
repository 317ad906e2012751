"""A disk that is full: for the log, and for the metric files."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from kit.tests.e2e.report import Report
from kit.tests.faults.world import Database, WatchedService, settings, total, under_load
from kit.tests.support.paths import MIGRATIONS
from kit.tests.support.volumes import CannotMountError, fill, mounted
from slipway_kit.db import migrations
from slipway_kit.db.settings import DatabaseSettings
from slipway_kit.metrics import files

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning"),
]

# The least that two workers start with, and a little.
SIZE_KIB = 2048
LOAD_SECONDS = 5.0


@pytest.fixture
def volume(tmp_path: Path, report: Report) -> Iterator[Path]:
    """A small volume, which a file fills up but for some pages."""
    try:
        with mounted(tmp_path / "volume", kib=SIZE_KIB) as found:
            yield found
    except CannotMountError as error:
        report.lacks("the disk is full", goal="nobody notices", reason=str(error))


@pytest.fixture
def database() -> Iterator[Database]:
    """A database with the schema."""
    found = Database()
    migrations.upgrade(DatabaseSettings(url=SecretStr(found.url)), MIGRATIONS)
    yield found
    found.remove()


def test_a_disk_that_is_full_for_logs_costs_lines(
    volume: Path, database: Database, tmp_path: Path, report: Report
) -> None:
    path = volume / "log"
    out = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    service = WatchedService(tmp_path / "log", settings(database), out=out)
    os.close(out)
    try:
        service.log = path
        service.wait_ready(2)
        with under_load(service.port) as load:
            time.sleep(1)
            fill(volume)
            time.sleep(LOAD_SECONDS)
        metrics = service.metrics()
    finally:
        service.end()
    dropped = total(metrics, "log_lines_dropped_total")
    report.row(
        "the disk is full for logs",
        goal="nobody notices; lines are dropped and counted",
        measured=load.failed,
        unit=f"of {load.requests} requests failed",
        ok=load.failed == 0 and dropped > 0 and not load.missing_writes,
        dropped_log_lines=dropped,
    )


def test_a_disk_that_is_full_for_metrics_costs_series(
    volume: Path, database: Database, tmp_path: Path, report: Report
) -> None:
    folder = volume / "metrics"
    service = WatchedService(tmp_path / "log", settings(database, PROMETHEUS_MULTIPROC_DIR=folder))
    try:
        service.wait_ready(2)
        workers = service.workers()
        fill(volume)
        with under_load(service.port) as load:
            time.sleep(LOAD_SECONDS)
        after = service.workers()
    finally:
        service.end()
    report.row(
        "the disk is full for metric files",
        goal="nobody notices; new series are dropped and no worker dies",
        measured=load.failed,
        unit=f"of {load.requests} requests failed",
        ok=load.failed == 0 and after == workers and not load.missing_writes,
        said=len(service.events_so_far(files.LOST)),
    )
