"""`python -m app` as a person types it."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from app import about
from app.__main__ import main
from kit.tests.support.paths import MIGRATIONS, SERVICE
from slipway_kit.db import migrations
from slipway_kit.service import cli

pytestmark = pytest.mark.usefixtures("restored_logs")


def values(**database: int) -> str:
    return json.dumps(
        {"replicas": 2, "server": {"workers": 2}, "database": {"poolSize": 10, **database}}
    )


def test_capacity_prints_the_sums_of_the_running_configuration(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "3")
    assert main(["capacity"]) == 0
    printed = capsys.readouterr().out
    assert "x 3 workers x (10 pool + 0 overflow + 1 readiness)" in printed
    assert "tightest: " in printed


def test_capacity_judges_chart_values_line_by_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = values(maxConnections=55), values(maxConnections=54)
    file = tmp_path / "values.jsonl"
    file.write_text(f"{good}\n\n{bad}\n")
    assert main(["capacity", "--from-values", str(file)]) == 1
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["accepted"], second["accepted"]) == (True, False)
    assert "= 55 > 54" in second["problems"][0]
    monkeypatch.setattr("sys.stdin", io.StringIO(good))
    assert main(["capacity", "--from-values", "-"]) == 0


@pytest.mark.parametrize("text", ["not json", "[]", '{"server": 3}', '{"replicas": "many"}'])
def test_values_that_make_no_sense_are_one_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert main(["capacity", "--from-values", "-"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: line 1 of the values is not usable: ")
    assert error.count("\n") == 1


def test_chart_values_are_judged_where_there_are_tools_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "_TOOLS", "slipway_kit.no_tools")
    assert main(["capacity", "--from-values", "-"]) == 2
    assert "the image has no development tools" in capsys.readouterr().err


def test_a_file_that_is_not_there_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["capacity", "--from-values", "/no/such/file"]) == 2
    assert "cannot be read: No such file" in capsys.readouterr().err


def test_migrate_goes_up_tells_and_goes_down(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, empty_url: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", empty_url)
    head = ", ".join(migrations.known_versions(MIGRATIONS).heads) or "empty"
    assert main(["migrate"]) == 0
    capsys.readouterr()
    assert main(["migrate", "current"]) == 0
    assert capsys.readouterr().out.strip() == head
    assert main(["migrate", "downgrade", "base"]) == 0
    capsys.readouterr()
    assert main(["migrate", "current"]) == 0
    assert capsys.readouterr().out.strip() == "empty"


def test_going_down_needs_a_place_to_go_to(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["migrate", "downgrade"]) == 2
    assert "name the revision" in capsys.readouterr().err


def test_a_migration_that_cannot_be_made_is_one_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"postgresql://nobody@/none?host={tmp_path}")
    assert main(["migrate"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")


def test_openapi_prints_the_document_though_it_is_not_served(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APP_ENV", "production")
    assert main(["openapi"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["info"]["title"] == about.NAME
    assert document["info"]["contact"] == {"name": about.OWNER}


def test_settings_prints_each_variable_with_its_default_and_meaning(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["settings"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("Settings of kit\n\n| variable | default | meaning |\n")
    assert "| `PORT` | `8000` | port of the API |" in printed


def test_wrong_settings_are_one_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORT", "high")
    assert main(["capacity"]) == 2
    assert capsys.readouterr().err.startswith("error: PORT is 'high': ")


DEAF = """
import os, runpy, signal, sys, time

class Deaf:
    def find_spec(self, name, path=None, target=None):
        if name == "slipway_kit.db.migrations":
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(30)
            except BaseException:
                time.sleep(30)

sys.meta_path.insert(0, Deaf())
sys.argv[1:] = sys.argv[2:]
runpy.run_module("app", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize(("command", "status"), [("serve", 0), ("migrate", 143)])
def test_sigterm_ends_it_at_once_even_amid_an_import_that_catches_everything(
    command: str, status: int
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DEAF, "app", command], cwd=SERVICE, timeout=20, check=False
    )
    assert done.returncode == status


def test_it_runs_in_any_folder(tmp_path: Path, empty_url: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(SERVICE), "DATABASE_URL": empty_url}
    printed = [
        subprocess.run(
            [sys.executable, "-m", "app", *arguments],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
        for arguments in (["migrate"], ["migrate", "current"])
    ]
    heads = migrations.known_versions(MIGRATIONS).heads
    assert printed[-1].strip() == (", ".join(heads) or "empty")
