"""Delete slipway_kit/fast in a copy of the template, and run every test but those of the folder.

    python -m tools.without_fast [--quarter N]

What is deleted saves time and changes nothing else: a new release of a library whose private parts
it uses costs speed, never a service. With `--quarter N` a quarter of the files with runtime tests
is run, as in tools/mutate.py, and everything else.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tools.mutate import SERVICE, quarter_of
from tools.on_service import TEMPLATE, clean, files_of, run_together
from tools.scaffolding import clone

FOLDER, TESTS = "kit/src/slipway_kit/fast", "kit/tests/unit/fast"


def main(arguments: Sequence[str]) -> int:
    """Return the highest status of the runs of pytest."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quarter", type=int)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="without-fast-") as folder:
        tree = clone(TEMPLATE, Path(folder) / "tree")
        shutil.rmtree(tree / FOLDER)
        # What lacks the folder is another library, with sums of its own.
        subprocess.run([sys.executable, "tools/manifest.py"], cwd=tree, check=True)
        runs = [
            (tree / "kit", f"tests/unit tests/api tests/db --ignore {tree / TESTS}"),
            (tree / SERVICE, "tests"),
            *((tree / "kit", file) for file in quarter_of(files_of("runtime"), options.quarter)),
        ]
        return run_together(runs, clean(os.environ))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
