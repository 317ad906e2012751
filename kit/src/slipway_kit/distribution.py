"""The library as a distribution: installed from an index, or vendored beside the service."""

from importlib import metadata
from pathlib import Path

from slipway_kit import __version__
from slipway_kit.errors import SettingsError

NAME = "slipway-kit"


def require_one_version() -> None:
    """Raise `SettingsError` when another version is installed beside this one.

    The working directory would decide which of them a process imports.
    """
    for found in metadata.distributions(name=NAME):
        if found.version != __version__:
            raise SettingsError(
                f"{NAME} {found.version} is installed beside {__version__} in"
                f" {Path(__file__).parent}: uninstall it, or delete that folder."
            )


def write_dist_info(folder: Path) -> Path:
    """Write the dist-info of an installed library into `folder`, for vulnerability scanners."""
    path = folder / f"{NAME.replace('-', '_')}-{__version__}.dist-info"
    path.mkdir(parents=True)
    (path / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {__version__}\nLicense: MIT\n",
        encoding="utf-8",
    )
    (path / "INSTALLER").write_text("slipway\n", encoding="utf-8")
    return path
