"""Remove what was not chosen, and whatever a used work tree of the template left behind.

Only what this bake wrote is touched: `cookiecutter --overwrite-if-exists` may bake over a folder
that holds an owner's repository.
"""

import json
import shutil
import sys
from pathlib import Path

ANSWERS = json.loads(r"""<< cookiecutter | jsonify >>""")
TEMPLATE = json.loads(r"""<< template_files() | jsonify >>""")

# option -> value -> the paths that exist for that value alone
ONLY_FOR = {
    "example": {
        "shop": [
            "app/features/shop",
            "tests/openapi.json",
            "tests/shop",
            "migrations/versions/0001_games.py",
        ]
    },
    "ci": {"github": [".github"], "gitlab": [".gitlab-ci.yml"]},
}
NEXT = f"""
{ANSWERS["project_name"]} is in {Path.cwd()}. Next, in that folder:
  make setup   install what it needs into .venv
  make test    run its tests
  make run     serve it, with a database of its own
"""


def require_linked() -> None:
    """End the bake when links to the chart and the library were lost on the way here."""
    # A zip archive holds a line of text in place of a link.
    if missing := [name for name in TEMPLATE["linked"] if not Path(name).is_dir()]:
        sys.exit(
            f"error: {', '.join(missing)} cannot be copied, for archives lose the template's"
            " links: bake from its folder or its git repository"
        )


def remove(path: Path) -> None:
    """Remove a path, and the folders that are empty without it: git would not keep them."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
    for folder in path.parents:
        if any(folder.iterdir()):
            break
        folder.rmdir()


def unchosen() -> list[Path]:
    """Return the files of every value that was not chosen."""
    found = []
    for option, values in ONLY_FOR.items():
        for value, paths in values.items():
            for path in paths:
                files = [
                    Path(file) for file in TEMPLATE["files"] if f"{file}/".startswith(f"{path}/")
                ]
                if not files:
                    sys.exit(f"error: the template lacks {path}, listed for {option}={value}")
                if value != ANSWERS[option]:
                    found += files
    return found


if __name__ == "__main__":
    require_linked()
    for each in (*map(Path, TEMPLATE["ignored"]), *unchosen()):
        remove(each)
    print(NEXT)  # noqa: T201 (for who bakes)
