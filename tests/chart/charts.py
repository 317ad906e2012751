"""Renders the chart with the real helm and finds things in what it wrote."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests import baking

CHART = baking.TEMPLATE / "helm/service"
SERVICE = baking.TEMPLATE / baking.SERVICE
ENVIRONMENTS = ("dev", "staging", "production")
KUBERNETES = "1.33"
NAMESPACE = "shops"
RELEASE = "games"
NAME = f"{RELEASE}-service"

# The one in C is ten times as fast.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Values = Mapping[str, Any]
Object = dict[str, Any]


def tool(name: str) -> str:
    """Return a program that `make setup` or `make tools` installs, or skip, or fail in CI."""
    folders = os.pathsep.join([str(baking.VENV / "bin"), os.environ["PATH"]])
    found = shutil.which(name, path=folders)
    if found is None:
        baking.missing(f"{name} (`make tools` installs it)")
    return str(found)


@cache
def helms() -> dict[str, str]:
    """Return every helm there is to test with: the third version and the fourth."""
    return {"3": tool("helm"), "4": tool("helm4")}


@dataclass(frozen=True)
class Rendered:
    """What helm made of some values: objects, or the reason why not."""

    objects: tuple[Object, ...]
    refusal: str

    def find(self, kind: str, name: str = NAME) -> Object:
        """Return the one object of this kind and name."""
        found = [each for each in self.of(kind) if each["metadata"]["name"] == name]
        assert len(found) == 1, f"{len(found)} of {kind} {name}"
        return found[0]

    def of(self, kind: str) -> list[Object]:
        """Return every object of this kind."""
        assert not self.refusal, self.refusal
        return [each for each in self.objects if each["kind"] == kind]

    @property
    def messages(self) -> list[str]:
        """Each message of a refusal by the chart itself."""
        _, _, text = self.refusal.partition("execution error at")
        lines = text.partition("):")[2].partition("Use --debug")[0].splitlines()
        return [line.strip() for line in lines if line.strip()]


def render(  # noqa: PLR0913 (what helm can be told)
    values: Values | None = None,
    *,
    helm: str = "3",
    chart: Path = CHART,
    files: Iterable[Path] = (),
    kubernetes: str = KUBERNETES,
    release: str = RELEASE,
    namespace: str = NAMESPACE,
) -> Rendered:
    """Render a chart with `values` over those of `files` and the defaults."""
    named = [part for file in files for part in ("--values", str(file))]
    done = subprocess.run(
        [
            *(helms()[helm], "template", release, str(chart), "--namespace", namespace),
            *("--kube-version", kubernetes, *named, "--values", "-"),
        ],
        input=json.dumps(values or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return Rendered((), done.stderr)
    return Rendered(tuple(each for each in yaml.load_all(done.stdout, LOADER) if each), "")


def render_all(many: Iterable[Values], *, helm: str = "3") -> list[Rendered]:
    """Render many releases, as many at a time as there are cores."""
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        return list(threads.map(lambda values: render(values, helm=helm), many))


def defaults(chart: Path = CHART) -> dict[str, Any]:
    """Return the values of values.yaml."""
    found: dict[str, Any] = yaml.safe_load((chart / "values.yaml").read_text(encoding="utf-8"))
    return found


def merged(base: Values, over: Values) -> dict[str, Any]:
    """Lay values over others as helm does: objects key by key, anything else as a whole."""
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        both = isinstance(value, Mapping) and isinstance(below, Mapping)
        result[key] = merged(below, value) if both else value  # type: ignore[arg-type]
    return result


def nested(path: str, value: object) -> dict[str, Any]:
    """Return values in which `path`, with dots between its names, is `value`."""
    for name in reversed(path.split(".")):
        value = {name: value}
    assert isinstance(value, dict)
    return value


def container(workload: Object) -> Object:
    """Return the first container of a workload: the service's own."""
    found: Object = workload["spec"]["template"]["spec"]["containers"][0]
    return found


# Every object that the chart can make, at once.
EVERYTHING: Values = {
    "autoscaling": {"enabled": True},
    "database": {"url": "postgresql://user:password@postgres:5432/shop"},
    "tracing": {"endpoint": "http://collector:4318"},
    "config": {"LOG_LEVEL": "DEBUG"},
    "server": {"preStopSeconds": 2, "terminationGracePeriodSeconds": 52},
    "strategy": {"minReadySeconds": 26},
    "ingress": {"enabled": True, "hosts": [{"host": "games.example.org"}]},
    "httpRoute": {
        "enabled": True,
        "parentRefs": [{"name": "public"}],
        "hostnames": ["games.example.org"],
    },
    "metrics": {
        "serviceMonitor": {"enabled": True},
        "alerts": {"enabled": True},
        "dashboard": {"enabled": True},
    },
}
