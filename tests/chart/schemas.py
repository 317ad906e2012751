"""Schemas that kubeconform checks with: Kubernetes' own from PyPI, those of others from Go.

Made when first wanted, in a few seconds, and kept in `build/`.
"""

import hashlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from tests import baking
from tests.chart import charts

# The oldest that the chart supports, the one with `sleep` in a preStop, one between, the newest.
VERSIONS = ("1.29", "1.30", "1.33", "1.37")
GO = baking.TEMPLATE / "tools/go/checkers"
APIS = {
    "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1": {
        "PrometheusRule",
        "ServiceMonitor",
    },
    "sigs.k8s.io/gateway-api/apis/v1": {"HTTPRoute"},
}

Schema = dict[str, Any]


def package() -> Path:
    """Return the folder of the schemas that kubernetes-validate brings."""
    spec = find_spec("kubernetes_validate")
    return Path(str(spec and spec.origin)).parent / "kubernetes-json-schema"


@cache
def folder() -> Path:
    """Return the folder with all schemas: one folder a version, `custom` and `definitions`."""
    sources = [GO / "go.sum", Path(__file__), package().parent / "version.py"]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    made = baking.TEMPLATE / "build/schemas" / digest[:12]
    if not made.exists():
        made.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=made.parent) as rubbish:
            new = Path(rubbish) / "new"
            write_definitions(new / "definitions")
            write_custom(new / "definitions", new / "custom")
            for version in VERSIONS:
                write_kubernetes(version, new / version)
            try:
                new.rename(made)
            except OSError:  # somebody else was faster
                shutil.rmtree(new)
    return made


def write_definitions(into: Path) -> None:
    """Have controller-gen write CustomResourceDefinitions from the APIs' Go packages."""
    if shutil.which("go") is None:
        baking.missing("go, which controller-gen reads sources with")
    with tempfile.TemporaryDirectory() as everything:
        baking.run(
            *(charts.tool("controller-gen"), "crd:allowDangerousTypes=true"),
            *(f"paths={path}" for path in APIS),
            f"output:crd:dir={everything}",
            cwd=GO,
        )
        into.mkdir(parents=True)
        kinds = {kind for chosen in APIS.values() for kind in chosen}
        for path in Path(everything).iterdir():
            definition = yaml.load(path.read_text(encoding="utf-8"), charts.LOADER)
            if definition["spec"]["names"]["kind"] in kinds:
                shutil.copy(path, into / path.name)


def definitions() -> list[Path]:
    """Return the CustomResourceDefinitions of every custom resource that the chart can make."""
    return sorted((folder() / "definitions").iterdir())


def write_custom(source: Path, into: Path) -> None:
    """Write a strict schema for each version of each CustomResourceDefinition."""
    into.mkdir()
    for path in sorted(source.iterdir()):
        spec = yaml.load(path.read_text(encoding="utf-8"), charts.LOADER)["spec"]
        for version in spec["versions"]:
            schema = version["schema"]["openAPIV3Schema"]
            close(schema)
            schema["properties"]["metadata"] = {"type": "object"}
            name = f"{spec['names']['kind']}-{spec['group'].split('.')[0]}-{version['name']}"
            (into / f"{name.lower()}.json").write_text(json.dumps(schema), encoding="utf-8")


def close(schema: Schema) -> None:
    """Refuse, in a schema and all below, a field that it does not describe."""
    if schema.pop("x-kubernetes-int-or-string", False):
        schema.pop("anyOf", None)
        schema["type"] = ["integer", "string"]
    keep = schema.get("x-kubernetes-preserve-unknown-fields", False)
    if "properties" in schema and not keep:
        schema.setdefault("additionalProperties", False)
    for below in inside(schema):
        close(below)


def inside(schema: Schema) -> Iterator[Schema]:
    """Yield the schemas of fields, values and items."""
    yield from schema.get("properties", {}).values()
    for field in ("additionalProperties", "items"):
        if isinstance(schema.get(field), dict):
            yield schema[field]


def write_kubernetes(version: str, into: Path) -> None:
    """Copy the schemas of a version of Kubernetes so that they refer to each other as files.

    As they come they name each other by addresses, which kubeconform would try to fetch.
    """
    into.mkdir()
    for path in (package() / f"v{version}.0-local-strict").iterdir():
        text = path.read_text(encoding="utf-8")
        schema = json.loads(text.replace("/api/_definitions.json#", "_definitions.json#"))
        schema.pop("$id", None)
        (into / path.name).write_text(json.dumps(schema), encoding="utf-8")


def conform(manifests: Iterable[Path], version: str) -> tuple[int, list[str]]:
    """Return how many objects of these files kubeconform knows as right, and what else it says."""
    named = "{{.ResourceKind}}{{.KindSuffix}}.json"
    locations = [f"{folder()}/{place}/{named}" for place in (version, "custom")]
    done = subprocess.run(
        [
            *(charts.tool("kubeconform"), "-strict", "-summary", "-output", "json"),
            *("-kubernetes-version", f"{version}.0"),
            *(part for location in locations for part in ("-schema-location", location)),
            *map(str, manifests),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in {0, 1}, done.stderr
    answer = json.loads(done.stdout)
    told = [
        f"{Path(each['filename']).stem}: {each['kind']} {each['name']}: {each['msg']}"
        for each in answer["resources"]
    ]
    return answer["summary"]["valid"], told
