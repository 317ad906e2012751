"""Write the sums of the library's files, which `python -m slipway_kit verify` compares."""

from pathlib import Path
from runpy import run_path

PACKAGE = Path(__file__).resolve().parents[1] / "kit/src/slipway_kit"


def text() -> str:
    """Return what MANIFEST should hold."""
    verify = run_path(str(PACKAGE / "dev/verify.py"))
    return str(verify["render"](verify["sums"](PACKAGE)))


def write() -> None:
    """Write MANIFEST."""
    (PACKAGE / "MANIFEST").write_text(text(), encoding="utf-8")


if __name__ == "__main__":
    write()
