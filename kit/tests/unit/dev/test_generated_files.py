"""Files that a command writes are as fresh as what they are written from."""

import shutil
from pathlib import Path

import pytest

from kit.tests.support.paths import SERVICE
from slipway_kit.dev import lock, settings_table


def test_requirements_belong_to_the_dependency_tables() -> None:
    assert lock.stale(SERVICE) == [], "run `make lock`"


def test_a_changed_dependency_makes_the_requirements_stale(tmp_path: Path) -> None:
    for name in ("pyproject.toml", *lock.FILES):
        shutil.copy(SERVICE / name, tmp_path / name)
    project = tmp_path / "pyproject.toml"
    project.write_text(project.read_text().replace('"asyncpg>=', '"asyncpg>'))
    assert lock.stale(tmp_path) == ["requirements.txt", "requirements-dev.txt"]


def test_requirements_name_no_index_and_hash_everything() -> None:
    for name in lock.FILES:
        lines = (SERVICE / name).read_text().splitlines()
        pins = [line for line in lines if line and line[0] not in "# "]
        assert pins
        assert all("==" in pin and pin.endswith("\\") for pin in pins), name
        assert not any("://" in line or line.startswith("-") for line in lines), name


def test_the_readme_lists_the_settings_as_they_are() -> None:
    readme = (SERVICE / "README.md").read_text()
    assert readme == settings_table.readme(readme), "run `python tools/settings_table.py`"
    assert "| `DATABASE_POOL_SIZE` |" in readme


def test_env_example_lists_the_settings_as_they_are() -> None:
    written = (SERVICE / ".env.example").read_text()
    assert written == settings_table.env_example(written), "run `python tools/settings_table.py`"
    assert "#DATABASE_POOL_SIZE=" in written


@pytest.fixture
def garden(monkeypatch: pytest.MonkeyPatch) -> None:
    """A feature with a setting, the only one there is."""
    beds = settings_table.Setting("GARDEN_BEDS", "2", "beds to dig", "How the garden is kept.")
    monkeypatch.setattr(settings_table, "settings", lambda: {"garden": [beds]})


MARKS = """before
# settings of garden: written by tools/settings_table.py
# end of settings of garden
after
"""


def test_the_settings_of_a_feature_are_written_between_its_marks(garden: None) -> None:
    written = settings_table.env_example(MARKS)
    assert "#GARDEN_BEDS=2\n# end of settings of garden\nafter\n" in written
    assert settings_table.env_example(written) == written


def test_the_settings_of_a_feature_that_is_gone_are_taken_out(garden: None) -> None:
    gone = MARKS.replace("garden", "shop")
    assert settings_table.env_example(f"{MARKS}{gone}").endswith("garden\nafter\nbefore\nafter\n")


def test_a_file_without_marks_for_a_feature_is_told_which_to_add(garden: None) -> None:
    with pytest.raises(settings_table.NoPlaceError, match="<!-- end of settings of garden -->"):
        settings_table.readme("# Service")
