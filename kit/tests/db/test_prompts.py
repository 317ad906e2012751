"""`make psql` and `make shell`: prompts in the service's database."""

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import SecretStr

from kit.tests.support.paths import SERVICE
from slipway_kit.db.settings import DatabaseSettings
from slipway_kit.dev import psql

PSQL = ("slipway_kit.dev.psql", "--no-psqlrc", "--tuples-only", "-c", "SELECT 'found ' || 7")


def run(*module: str, cwd: Path = SERVICE, typed: str = "", **variables: str) -> str:
    inherited = {name: value for name, value in os.environ.items() if "DATABASE" not in name}
    done = subprocess.run(
        [sys.executable, "-m", *module],
        cwd=cwd,
        env=inherited | {"PYTHONPATH": str(SERVICE)} | variables,
        input=typed,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.stdout


def test_psql_opens_the_database_of_each_way_to_name_it(migrated_url: str, tmp_path: Path) -> None:
    assert "found 7" in run(*PSQL, DATABASE_URL=migrated_url)
    timed = f"{migrated_url}&options=-c%20statement_timeout%3D7s"
    assert "7s" in run(*PSQL[:-1], "SHOW statement_timeout", DATABASE_URL=timed)
    driver = migrated_url.replace("postgresql://", "postgresql+asyncpg://")
    assert "found 7" in run(*PSQL, DATABASE_URL=driver)
    url = urlsplit(migrated_url)
    parts = {
        "DATABASE_HOST": parse_qs(url.query)["host"][0],
        "DATABASE_NAME": url.path.strip("/"),
        "DATABASE_USER": url.username or "",
    }
    assert "found 7" in run(*PSQL, cwd=SERVICE, typed="", **parts)
    (tmp_path / ".env").write_text(f"DATABASE_URL={migrated_url}\n")
    assert "found 7" in run("slipway_kit.dev.postgres", "exec", "-m", *PSQL, cwd=tmp_path)


def test_psql_is_given_every_part_of_the_address_and_none_as_an_argument() -> None:
    url = "postgres://me:p%40ss@db.example:6432/shop?sslmode=require&application_name=me"
    url += "&options=-c%20search_path%3Da%2C%5C%20b"
    assert psql.variables(DatabaseSettings(url=SecretStr(url))) == {
        "PGHOST": "db.example",
        "PGPORT": "6432",
        "PGUSER": "me",
        "PGPASSWORD": "p@ss",
        "PGDATABASE": "shop",
        "PGAPPNAME": "me",
        "PGOPTIONS": "-c search_path=a,\\ b",
        "PGSSLMODE": "require",
    }
    parts = DatabaseSettings(host="::1", password=SecretStr("secret"))
    assert psql.variables(parts)["PGPASSWORD"] == "secret"


@pytest.mark.parametrize("module", ["psql", "shell"])
def test_a_setting_that_makes_no_sense_is_one_sentence(module: str) -> None:
    printed = run(f"slipway_kit.dev.{module}", DATABASE_URL="mysql://db/shop")
    assert printed.startswith("error: DATABASE_URL")
    assert len(printed.splitlines()) == 1


def test_the_shell_awaits_and_knows_settings_database_and_models(migrated_url: str) -> None:
    typed = (
        "await database.rows(text('SELECT 7 AS seven'))\n"
        "settings.server.port\n"
        "1 / 0\n"
        "await database.rows(select(Game))\n"
        "async with database.transaction() as session:\n"
        "  print('in', session.in_transaction())\n"
        "\n"
    )
    printed = run("slipway_kit.dev.shell", typed=typed, DATABASE_URL=migrated_url)
    assert "[{'seven': 7}]" in printed
    assert "8000" in printed
    assert "ZeroDivisionError" in printed
    assert ">>> []" in printed
    assert "in True" in printed
