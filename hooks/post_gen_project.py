"""Remove what was not chosen, and whatever a used work tree of the template left behind."""

import json
import shutil
import sys
from fnmatch import fnmatch
from pathlib import Path

ANSWERS = json.loads(r"""<< cookiecutter | jsonify >>""")

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


# Links to one source in the template; a zip archive holds a line of text in their place.
LINKED = ["chart/dashboards", "chart/templates", "slipway_kit"]


def require_linked(project: Path) -> None:
    """End the bake when links to the chart and the library were lost on the way here."""
    if missing := [name for name in LINKED if not (project / name).is_dir()]:
        sys.exit(
            f"error: {', '.join(missing)} cannot be copied, for archives lose the template's"
            " links: bake from its folder or its git repository"
        )


def remove(path: Path) -> None:
    """Remove a file, a link or a whole folder."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def remove_ignored(project: Path) -> None:
    """Remove what git would ignore; .gitignore holds plain names and patterns of names."""
    patterns = (project / ".gitignore").read_text(encoding="utf-8").split()
    for path in sorted(project.rglob("*")):
        ignored = any(fnmatch(path.name, pattern) for pattern in patterns)
        if ignored and (path.exists() or path.is_symlink()):
            remove(path)


def remove_unchosen(project: Path) -> None:
    """Remove the paths of every value that was not chosen."""
    for option, values in ONLY_FOR.items():
        for value, paths in values.items():
            for path in paths:
                if not (project / path).exists():
                    sys.exit(f"error: the template lacks {path}, listed for {option}={value}")
                if value != ANSWERS[option]:
                    remove(project / path)


def remove_empty(project: Path) -> None:
    """Remove folders that nothing is left in: git would not keep them."""
    for path in sorted(project.rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()


if __name__ == "__main__":
    require_linked(Path.cwd())
    remove_ignored(Path.cwd())
    remove_unchosen(Path.cwd())
    remove_empty(Path.cwd())
