"""Builds the library's wheel and source distribution."""

import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from tests import baking
from tools import manifest

KIT = baking.TEMPLATE / "kit"


def build(folder: Path, *, version: str = "") -> Path:
    """Return a folder with wheel and sdist, made as `make kit-build` makes them.

    With `version` they claim to be another one.
    """
    if not find_spec("flit_core"):
        baking.missing("flit_core")
    shutil.copytree(KIT, folder / "kit", ignore=shutil.ignore_patterns("__pycache__", ".*"))
    if version:
        (folder / "kit/src/slipway_kit/__init__.py").write_text(
            f'"""Another one."""\n\n__version__ = "{version}"\n', encoding="utf-8"
        )
    # Whether `make manifest` was forgotten is another test's question.
    package = folder / "kit/src/slipway_kit"
    (package / "MANIFEST").write_text(manifest.text(), encoding="utf-8")
    command = ("uv", "build", "--offline", "--no-build-isolation", "--quiet")
    baking.run(
        *(sys.executable, "-m", *command, "--python", sys.executable, "--out-dir", "dist", "kit"),
        cwd=folder,
    )
    return folder / "dist"
