"""Where the library is, and the service that its tests run."""

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
# A scaffolded one with SLIPWAY_SERVICE, else the template's own tree.
SERVICE = Path(os.environ.get("SLIPWAY_SERVICE") or REPOSITORY / "<<cookiecutter.project_slug>>")
MIGRATIONS = SERVICE / "migrations"
