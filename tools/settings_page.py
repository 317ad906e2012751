"""Write kit/docs/settings.md: every setting that the library gives a service.

python -m tools.settings_page
"""

import os
import sys
from pathlib import Path

TEMPLATE = Path(__file__).resolve().parents[1]
SERVICE = TEMPLATE / "<<cookiecutter.project_slug>>"
PAGE = TEMPLATE / "kit/docs/settings.md"
HEAD = """# Settings

Each is an environment variable; `python -m app settings` prints those of the service too.
An invalid value, or an unknown name with one of these prefixes, stops the start with one sentence.
Those that begin with `OTEL_` are the platform's too: they may cost traces, never the start.

"""


def text() -> str:
    """Return what the page should hold."""
    from app.settings import Settings  # noqa: PLC0415 (they are found late)
    from slipway_kit.dev.settings_table import KIT, by_owner, table  # noqa: PLC0415

    return HEAD + table(by_owner(Settings)[KIT])


if __name__ == "__main__":
    sys.path.insert(0, str(SERVICE))
    os.chdir(SERVICE)
    PAGE.write_text(text(), encoding="utf-8")
