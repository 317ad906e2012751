"""The name, owner, version and folder of a service."""

from pathlib import Path
from typing import Protocol


class About(Protocol):
    """The constants of the module `app.about`."""

    @property
    def NAME(self) -> str:  # noqa: N802 (a constant of a module)
        """Display name."""

    @property
    def SLUG(self) -> str:  # noqa: N802
        """Name for machines: folders, traces."""

    @property
    def OWNER(self) -> str:  # noqa: N802
        """The owning team."""

    @property
    def DESCRIPTION(self) -> str:  # noqa: N802
        """One sentence about the service."""

    @property
    def VERSION(self) -> str:  # noqa: N802
        """Version of the service and its API."""

    @property
    def ROOT(self) -> Path:  # noqa: N802
        """The folder with `app`, `migrations` and `gunicorn.conf.py`."""
