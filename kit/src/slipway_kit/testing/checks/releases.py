"""What the chart makes of an environment's values, beside what the service reads and listens on."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import yaml
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from slipway_kit.dev import chart_values, programs
from slipway_kit.errors import SettingsError
from slipway_kit.testing.values import merged

URL = "postgresql://user:password@postgres/name"
PROBES = ("startupProbe", "livenessProbe", "readinessProbe")
# Names of releases and services are checked elsewhere; an unrendered template has none yet.
NAMED = ("--set", "fullnameOverride=service")


def chart(
    environment: Path, create_app: Callable[[Any], FastAPI], load: Callable[[], Any]
) -> list[str]:
    """Return what does not fit in the release of `environment`, a values file of a chart's folder.

    `load` reads the service's settings from the environment variables, `create_app` takes them.
    """
    try:
        programs.run(["helm", "lint", "--strict", *_release(environment), *NAMED])
        objects = list(
            yaml.safe_load_all(programs.run(["helm", "template", *_release(environment)]))
        )
    except programs.ProgramError as error:
        return [f"{environment.name}: {error}"]
    faults = [*_capacity(environment), *_pods(objects, create_app, load)]
    return [f"{environment.name}: {fault}" for fault in faults]


def _release(environment: Path) -> list[str]:
    return [str(environment.parent), "--values", str(environment)]


def _capacity(environment: Path) -> list[str]:
    """Return the sums of `python -m app capacity` that do not add up."""
    base = yaml.safe_load((environment.parent / "values.yaml").read_text(encoding="utf-8"))
    own = yaml.safe_load(environment.read_text(encoding="utf-8")) or {}
    answer = chart_values.verdict(chart_values.limits(merged(base, own)))
    return [] if answer["accepted"] else [str(problem) for problem in answer["problems"]]


def _pods(
    objects: list[dict[str, Any]], create_app: Callable[[Any], FastAPI], load: Callable[[], Any]
) -> Iterator[str]:
    (given,) = (each["data"] for each in objects if "PORT" in each.get("data", {}))
    with patch.dict(os.environ, given | {"DATABASE_URL": URL}, clear=True):
        try:
            settings = load()
            app = create_app(settings)
        except SettingsError as error:
            yield f"the service does not start with the settings of its pods: {error}"
            return
    server = settings.server
    if not server.production or server.host not in {"::", "0.0.0.0"}:
        yield "a pod needs APP_ENV=production and HOST=*"
    container = next(
        each["spec"]["template"]["spec"]["containers"][0]
        for each in objects
        if each["kind"] == "Deployment"
    )
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    if ports != {"http": server.port, "metrics": server.metrics_port}:
        yield f"the pods open {ports}; the service has {server.port} and {server.metrics_port}"
    paths = {route.path for route in iter_route_contexts(app.routes)}
    for probe in PROBES:
        if (path := container[probe]["httpGet"]["path"]) not in paths:
            yield f"the {probe} asks for {path}, which is no route of the service"
