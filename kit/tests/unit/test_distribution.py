"""The library beside an installed one."""

from importlib import metadata
from pathlib import Path

import pytest

from slipway_kit import __version__
from slipway_kit.errors import SettingsError
from slipway_kit.server.start_checks import require_one_version


def have_installed(version: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a distribution of that version in `folder`, which is imported from."""
    info = folder / f"Slipway.Kit-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: Slipway.Kit\nVersion: {version}\n"
    )
    monkeypatch.syspath_prepend(folder)


def test_a_folder_without_an_installed_distribution_may_start() -> None:
    assert list(metadata.distributions(name="slipway-kit")) == []
    require_one_version()


def test_the_same_version_may_be_installed_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    have_installed(__version__, tmp_path, monkeypatch)
    require_one_version()


def test_another_version_is_refused_in_one_sentence_that_names_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    have_installed("9.9", tmp_path, monkeypatch)
    with pytest.raises(SettingsError, match=r"^slipway-kit 9\.9 is installed beside .*\.$") as told:
        require_one_version()
    assert __version__ in str(told.value)
    assert "\n" not in str(told.value)
