"""The library beside an installed one, and what scanners read of it."""

from importlib import metadata
from pathlib import Path

import pytest

from slipway_kit import __version__
from slipway_kit.distribution import NAME, require_one_version, write_dist_info
from slipway_kit.errors import SettingsError


def test_a_folder_without_an_installed_distribution_may_start() -> None:
    assert list(metadata.distributions(name=NAME)) == []
    require_one_version()


def test_the_same_version_may_be_installed_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dist_info(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    require_one_version()


def test_another_version_is_refused_in_one_sentence_that_names_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "Slipway.Kit-9.9.dist-info"
    write_dist_info(tmp_path).rename(info)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: Slipway.Kit\nVersion: 9.9\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SettingsError, match=r"^slipway-kit 9\.9 is installed beside .*\.$") as told:
        require_one_version()
    assert __version__ in str(told.value)
    assert "\n" not in str(told.value)


def test_scanners_find_name_version_and_licence(tmp_path: Path) -> None:
    path = write_dist_info(tmp_path / "site")
    assert path.name == f"slipway_kit-{__version__}.dist-info"
    (found,) = metadata.distributions(name=NAME, path=[str(tmp_path / "site")])
    assert (found.name, found.version) == (NAME, __version__)
    assert found.metadata["License"] == "MIT"
