from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from slipway_kit.config.group import read
from slipway_kit.db.settings import DatabaseSettings
from slipway_kit.errors import SettingsError

SECRET = "hunter2"


def test_the_separate_settings_name_the_same_database_as_a_url() -> None:
    parts = DatabaseSettings(
        host="db", port=6432, user="app", password=SecretStr(SECRET), name="shop"
    )
    whole = DatabaseSettings(url=SecretStr(f"postgresql://app:{SECRET}@db:6432/shop"))
    assert parts.connect_arguments == whole.connect_arguments


def test_a_password_file_is_read_for_each_connection(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(f"{SECRET}\n")
    settings = DatabaseSettings(password_file=file)
    assert settings.connect_arguments["password"] == SECRET
    file.write_text("rotated")
    assert settings.connect_arguments["password"] == "rotated"


def test_a_url_without_a_password_takes_it_from_elsewhere(tmp_path: Path) -> None:
    settings = DatabaseSettings(
        url=SecretStr("postgresql://app@db/shop"), password=SecretStr(SECRET)
    )
    assert settings.connect_arguments["password"] == SECRET


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"url": "postgresql://db/shop", "host": "other"}, "DATABASE_HOST contradict"),
        ({"url": "postgresql://a:b@db/shop", "password": SECRET}, "DATABASE_PASSWORD contradict"),
        ({"password": SECRET, "password_file": "/etc/hostname"}, "PASSWORD_FILE contradict"),
        ({"password_file": "/nowhere/password"}, "/nowhere/password cannot be read"),
        ({"url": f"postgresql://app:{SECRET}@db:x/shop"}, "DATABASE_URL: it is not of the form"),
        ({"url": "postgresql://db/shop?sslmode=require&sslrootcert=/no/ca"}, "/no/ca cannot"),
        ({"pool_size": 0}, "greater than or equal to 1"),
        ({"pool_timeout_seconds": 0}, "greater than 0"),
    ],
)
def test_nonsense_is_refused_in_a_sentence_without_secrets(
    given: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValidationError, match=reason) as refusal:
        DatabaseSettings(**given)
    assert SECRET not in str(refusal.value)


def test_the_environment_is_refused_without_secrets_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", f"postgresql://app:{SECRET}@{SECRET}@db/shop")
    with pytest.raises(SettingsError, match=r"^DATABASE_URL: it is not of the form") as refusal:
        read(DatabaseSettings)
    assert SECRET not in str(refusal.value)


def test_printing_settings_shows_no_secret() -> None:
    url = DatabaseSettings(url=SecretStr(f"postgresql://app:{SECRET}@db/shop"))
    parts = DatabaseSettings(password=SecretStr(SECRET))
    assert url.connect_arguments["password"] == SECRET
    assert SECRET not in f"{url!r} {url} {parts!r} {parts} {url.model_dump()} {url.address!r}"


def test_the_server_is_told_who_asks_and_for_how_long() -> None:
    settings = DatabaseSettings(url=SecretStr("postgresql://db/shop?application_name=till"))
    arguments = settings.model_copy(update={"statement_timeout_ms": 700}).connect_arguments
    assert arguments["server_settings"]["application_name"] == "till"
    assert arguments["server_settings"]["statement_timeout"] == "700"
    assert arguments["command_timeout"] == pytest.approx(1.7)


def test_pgbouncer_gets_no_parameter_that_it_refuses() -> None:
    arguments = DatabaseSettings(pgbouncer=True).connect_arguments
    assert list(arguments["server_settings"]) == ["application_name"]
    assert arguments["statement_cache_size"] == 0


def test_a_connection_that_hangs_is_given_up_before_those_who_wait_for_it_are() -> None:
    arguments = DatabaseSettings(pool_timeout_seconds=2).connect_arguments
    assert arguments["timeout"] == 1.5
