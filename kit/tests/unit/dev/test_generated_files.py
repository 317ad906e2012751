"""Files that a command writes are as fresh as what they are written from."""

import shutil
from pathlib import Path

from tools import settings_page

from kit.tests.support.paths import REPOSITORY, SERVICE
from slipway_kit.dev import lock


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


def test_the_page_of_settings_lists_them_as_they_are() -> None:
    page = (REPOSITORY / "kit/docs/settings.md").read_text(encoding="utf-8")
    assert page == settings_page.text(), "run `python -m tools.settings_page`"
    assert "| `DATABASE_POOL_SIZE` | `10` |" in page
