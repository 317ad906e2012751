"""Asks the service in its own process: chart and service share no code."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from tests.chart.charts import SERVICE, Values

# Reads an environment a line and prints what Settings says of each.
_LOAD = """
import json, os, sys
from slipway_kit.errors import SettingsError
from app.settings import Settings

for line in sys.stdin:
    os.environ.clear()
    os.environ.update(json.loads(line))
    try:
        settings = Settings.load()
    except SettingsError as error:
        print(json.dumps({"error": str(error)}))
    else:
        print(json.dumps({"error": "", "settings": settings.model_dump(mode="json")}))
"""
_ROUTES = """
import json
from fastapi.routing import iter_route_contexts
from app.main import create_app
print(json.dumps([route.path for route in iter_route_contexts(create_app().routes)]))
"""


def load(environments: Iterable[Mapping[str, str]]) -> list[dict[str, Any]]:
    """Return what the service reads from each environment, or the error that stops its start."""
    return _lines(["-c", _LOAD], environments)


def judge(releases: Iterable[Values]) -> list[dict[str, Any]]:
    """Return the verdict of `python -m app capacity` on each release."""
    return _lines(["-m", "app", "capacity", "--from-values", "-"], releases, good=(0, 1))


def routes() -> set[str]:
    """Return the path of every route that the service itself has."""
    found: list[str] = json.loads(_run(["-c", _ROUTES], "").splitlines()[-1])
    return set(found)


def _lines(
    arguments: list[str], given: Iterable[Mapping[str, Any]], good: tuple[int, ...] = (0,)
) -> list[dict[str, Any]]:
    text = "\n".join(json.dumps(each) for each in given)
    return [json.loads(line) for line in _run(arguments, text, good).splitlines()]


def _run(arguments: list[str], given: str, good: tuple[int, ...] = (0,)) -> str:
    environment = {"PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=SERVICE,
        env=environment,
        input=given,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in good, done.stderr
    return done.stdout
