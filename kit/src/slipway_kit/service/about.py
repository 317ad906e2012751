"""What a service is called and where it is."""

from pathlib import Path
from typing import Protocol


class About(Protocol):
    """What the module `app.about` of a service says; every name is a constant."""

    @property
    def NAME(self) -> str:  # noqa: N802 (a constant of a module)
        """For people."""

    @property
    def SLUG(self) -> str:  # noqa: N802
        """For machines, such as folders and traces."""

    @property
    def OWNER(self) -> str:  # noqa: N802
        """Who answers for it."""

    @property
    def DESCRIPTION(self) -> str:  # noqa: N802
        """What it does."""

    @property
    def VERSION(self) -> str:  # noqa: N802
        """Of the service and its API."""

    @property
    def ROOT(self) -> Path:  # noqa: N802
        """The folder with `app`, `migrations` and `gunicorn.conf.py`."""
