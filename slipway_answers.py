"""What the template asks of cookiecutter beside its questions.

Answers are refused right after a question, in one sentence and before anything is written:
cookiecutter reports a hook that fails under a traceback of its own, and an error of an extension
as it is. A replay of old answers asks nothing, so that the hook must look as well.
"""

import json
import os
from fnmatch import fnmatch
from pathlib import Path

from cookiecutter.exceptions import FailedHookException
from jinja2 import Environment
from jinja2.ext import Extension

# Read now: an update of a service renders two versions of the template in one process.
HOOK = (Path(__file__).parent / "hooks/pre_gen_project.py").read_text(encoding="utf-8")
RENDERED = "<" + "< cookiecutter | jsonify >" + ">"
LONGEST_SLUG = 40
# Folders of a service that are links to one source in the template; a bake writes them as a whole.
LINKED = ("chart/dashboards", "chart/templates", "slipway_kit")


class Answers(Extension):
    """The filters `require_fit` and `fit_slug`, and for hooks `template_files()`."""

    def __init__(self, environment: Environment) -> None:
        """Add them to the environment that renders questions, files and hooks."""
        super().__init__(environment)
        environment.filters["require_fit"] = require_fit
        environment.filters["fit_slug"] = fit_slug
        environment.globals["template_files"] = template_files


def require_fit(answers: dict[str, object]) -> str:
    """Run the hook's checks of the answers given so far and raise what they say; show nothing."""
    try:
        exec(HOOK.replace(RENDERED, json.dumps(answers)), {"__name__": "answers"})  # noqa: S102 (a file of ours)
    except SystemExit as refused:
        raise FailedHookException(str(refused)) from None
    return ""


def fit_slug(slug: str) -> str:
    """Return what `slugify` made of a name as a technical name that the hook accepts."""
    whole = slug if slug[:1].isalpha() else f"service-{slug}"
    return whole[:LONGEST_SLUG].strip("-")


def template_files() -> dict[str, list[str]]:
    """Return the paths of a service in the template.

    `files` are those that a clone has; `ignored` is what git ignores in a used work tree, whole
    folders as one, and folders without anything in them; `linked` are links to other folders.
    """
    # cookiecutter renders hooks in the template's own folder.
    (service,) = Path.cwd().glob("<" + "<*")
    patterns = (service / ".gitignore").read_text(encoding="utf-8").split()
    found: dict[str, list[str]] = {"files": [], "ignored": [], "linked": [*LINKED]}
    for root, folders, names in os.walk(service, followlinks=True):
        place = Path(root).relative_to(service)
        if not folders and not names:
            found["ignored"].append(place.as_posix())
        for name in sorted((*folders, *names)):
            if any(fnmatch(name, pattern) for pattern in patterns):
                found["ignored"].append((place / name).as_posix())
            elif name in names:
                found["files"].append((place / name).as_posix())
        folders[:] = [each for each in folders if (place / each).as_posix() not in found["ignored"]]
    return found
