import asyncio
import os
import socket
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry, Counter

from kit.tests.support.metrics import restored_metrics
from kit.tests.support.ports import free
from slipway_kit.config.server import ServerSettings
from slipway_kit.errors import SettingsError
from slipway_kit.http import records
from slipway_kit.metrics import exporter, files
from slipway_kit.metrics.folder import MetricsFolder, memory_folder
from slipway_kit.runtime import runtime_of
from slipway_kit.server import start_checks


def test_a_given_folder_is_made_emptied_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "metrics"
    MetricsFolder.claim(str(path), slug="shop").release()
    (path / "counter_0.db").touch()
    MetricsFolder.claim(str(path), slug="shop").release()
    assert not list(path.glob("*.db"))


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(SettingsError, match="holds other files"):
        MetricsFolder.claim(str(tmp_path), slug="shop")
    assert (tmp_path / "thesis.txt").exists()


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    held = MetricsFolder.claim(str(tmp_path), slug="shop")
    with pytest.raises(SettingsError, match="is taken"):
        MetricsFolder.claim(str(tmp_path), slug="shop")
    held.release()


def test_what_killed_masters_left_is_swept_and_what_lives_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slipway_kit.metrics.folder.memory_folder", lambda: tmp_path)
    alive = MetricsFolder.claim(None, slug="shop")
    left = MetricsFolder.claim(None, slug="shop")
    left._lock.close()
    (left.path / "counter_0.db").touch()
    newest = MetricsFolder.claim(None, slug="shop")
    assert set(tmp_path.iterdir()) == {alive.path, newest.path}
    alive.release()
    newest.release()
    assert not list(tmp_path.iterdir())


def test_without_shared_memory_the_temporary_folder_is_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert memory_folder().is_dir()
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    assert memory_folder(tmp_path / "absent") == tmp_path


def test_no_folder_that_can_be_written_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def nowhere() -> str:
        raise FileNotFoundError

    monkeypatch.setattr(tempfile, "gettempdir", nowhere)
    with pytest.raises(SettingsError, match="no folder can be written: mount a volume in memory"):
        memory_folder(tmp_path / "absent")


def test_a_given_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "metrics"
    with pytest.raises(SettingsError, match=f"DIR={path} cannot be used: Not a directory"):
        MetricsFolder.claim(str(path), slug="shop")


def scrape(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        text: str = answer.read().decode()
        return text


@pytest.mark.anyio
async def test_one_process_alone_serves_its_own_metrics_and_those_of_modules() -> None:
    app, port = FastAPI(), free()
    runtime_of(app).add(CollectorRegistry())
    Counter("made_by_a_test", "A metric of a module.").inc(3)
    async with records.open_metrics(app, ServerSettings(metrics_port=port)):
        text = await asyncio.to_thread(scrape, port)
    assert "made_by_a_test_total 3.0" in text
    start_checks.require_free("127.0.0.1", port, setting="METRICS_PORT")


@pytest.mark.anyio
async def test_port_0_and_a_master_leave_the_port_alone(tmp_path: Path) -> None:
    app = FastAPI()
    runtime_of(app).add(CollectorRegistry())
    async with records.open_metrics(app, ServerSettings(metrics_port=0)):
        pass
    with restored_metrics(), socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        files.install(files.SlotIdentity(), tmp_path)
        settings = ServerSettings(metrics_port=taken.getsockname()[1])
        async with records.open_metrics(app, settings):
            pass


def test_an_exporter_serves_metrics_alone_and_is_replaced_not_too_often(tmp_path: Path) -> None:
    listener = start_checks.listen("127.0.0.1", 0, setting="METRICS_PORT")
    port = listener.getsockname()[1]
    served = exporter.Exporter(listener, tmp_path)
    served.ensure()
    try:
        first = served._pid
        assert scrape(port) == ""
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/")
        served.ensure()
        assert served._pid == first
        os.kill(first, 9)
        os.waitpid(first, 0)
        served.ensure()
        assert served._pid == first, "not within a second of the last start"
    finally:
        served.stop()
    served.stop()
