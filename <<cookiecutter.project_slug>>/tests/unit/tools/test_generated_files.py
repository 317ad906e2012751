"""Files that a command writes are as fresh as what they are written from."""

import shutil
from pathlib import Path

from tools import lock, settings_table

SERVICE = Path(__file__).parents[3]


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
    assert written == settings_table.env_example(), "run `python tools/settings_table.py`"
    assert "#DATABASE_POOL_SIZE=" in written
