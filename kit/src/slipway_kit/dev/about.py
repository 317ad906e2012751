"""What the service in the current folder is called, read from its app/about.py alone.

Only Python's standard library is needed, and the service is not imported: pipelines build images
where nothing is installed.
"""

import runpy
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class About:
    """The constants of app/about.py, in lower case."""

    name: str
    slug: str
    description: str
    version: str
    image: str


def read(service: Path | None = None) -> About:
    """Return what the service is called; end the command when this is no service's folder."""
    folder = service or Path.cwd()
    path = folder / "app/about.py"
    if not path.is_file():
        sys.exit(f"error: there is no app/about.py in {folder}: run this in a service's folder.")
    values = runpy.run_path(str(path))
    return About(**{name: values[name.upper()] for name in About.__dataclass_fields__})
