"""Delete slipway_kit/fast in a copy of the template, and run every test but those of the folder.

    python -m tools.without_fast [--quarter N]

What is deleted saves time and changes nothing else: a new release of a library whose private parts
it uses costs speed, never a service. With `--quarter N` a quarter of the library's files with tests
is run, as in tools/mutate.py, and the service's own tests.
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

FOLDER, TESTS = "kit/src/slipway_kit/fast", "tests/unit/fast"
# They run in one process; those of the runtime start processes, and have one for each file.
QUICK = ("unit", "api", "db")


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
        quick = [file for suite in QUICK for file in files_of(suite) if TESTS not in file]
        runs = [
            (tree / "kit", " ".join(quarter_of(sorted(quick), options.quarter))),
            (tree / SERVICE, "tests"),
            *((tree / "kit", file) for file in quarter_of(files_of("runtime"), options.quarter)),
        ]
        return run_together(runs, clean(os.environ))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
