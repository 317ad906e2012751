"""Write tests/openapi.json: the API's document that clients rely on, and that a test compares.

`make openapi` calls it after a change that is meant. The settings of this machine have no say in
it, and a service without routes has no document.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

SNAPSHOT = Path("tests/openapi.json")


def document() -> str:
    """Return what `python -m app openapi` prints, or end with what it says when it fails."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("OPENAPI_")
    }
    done = subprocess.run(
        [sys.executable, "-m", "app", "openapi"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(done.stderr.strip())
    return done.stdout


def write() -> None:
    """Write the document."""
    text = document()
    if json.loads(text)["paths"]:
        SNAPSHOT.write_text(text, encoding="utf-8")
    else:
        SNAPSHOT.unlink(missing_ok=True)


if __name__ == "__main__":
    write()
