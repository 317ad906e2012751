"""Refuse answers right after the last question, in one sentence and before anything is written.

cookiecutter reports a hook that fails under a traceback of its own, and an error of an extension
as it is. A replay of old answers asks nothing, so that the hook must look as well.
"""

import json
from pathlib import Path

from cookiecutter.exceptions import FailedHookException
from jinja2 import Environment
from jinja2.ext import Extension

# Read now: an update of a service renders two versions of the template in one process.
HOOK = (Path(__file__).parent / "hooks/pre_gen_project.py").read_text(encoding="utf-8")
RENDERED = "<" + "< cookiecutter | jsonify >" + ">"


class Answers(Extension):
    """The filter `require_fit`."""

    def __init__(self, environment: Environment) -> None:
        """Add the filter to the environment that renders the questions."""
        super().__init__(environment)
        environment.filters["require_fit"] = require_fit


def require_fit(answers: dict[str, object]) -> str:
    """Run the hook's checks and raise what they say; return nothing to show."""
    try:
        exec(HOOK.replace(RENDERED, json.dumps(answers)), {"__name__": "answers"})  # noqa: S102 (a file of ours)
    except SystemExit as refused:
        raise FailedHookException(str(refused)) from None
    return ""
