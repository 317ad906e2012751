"""Write values.schema.json and the README's table of values from the chart's values.yaml.

python tools/chart_values.py

A value is described by the comment before it that begins with `# --`. What it may be follows from
its default, unless KINDS says more. Objects that Kubernetes defines are checked by its own
definitions, down to the last key; they come from the package kubernetes-validate.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).resolve().parents[1] / "helm/service"
DEFINITIONS = "v1.37.0-local-strict/_definitions.json"
BEGIN, END = "<!-- values: written by tools/chart_values.py -->", "<!-- end of values -->"

Schema = dict[str, Any]


def whole(least: int = 0, most: int | None = None) -> Schema:
    """Describe a whole number."""
    return {"type": "integer", "minimum": least} | ({} if most is None else {"maximum": most})


def above_zero(most: float) -> Schema:
    """Describe a number that may have a fraction."""
    return {"type": "number", "exclusiveMinimum": 0, "maximum": most}


def text(pattern: str) -> Schema:
    """Describe a string."""
    return {"type": "string", "pattern": pattern}


def choice(*values: str) -> Schema:
    """Describe one of some strings."""
    return {"enum": list(values)}


def amount(least: int) -> Schema:
    """Describe a number of pods or a percentage of them."""
    percent = "^(100|[1-9]?[0-9])%$" if least == 0 else "^(100|[1-9][0-9]?)%$"
    return {"oneOf": [whole(least), text(percent)]}


def strings(names: str = "") -> Schema:
    """Describe an object with any names and values that are written as text."""
    found: Schema = {"type": "object", "additionalProperties": TEXT}
    return found | ({"propertyNames": {"pattern": names}} if names else {})


# What `--set` makes of `7` and `true`; Kubernetes wants text, and the templates write it.
TEXT: Schema = {"type": ["string", "number", "boolean"]}


def many(item: Schema) -> Schema:
    """Describe a list."""
    return {"type": "array", "items": item}


def closed(*required: str, **properties: Schema) -> Schema:
    """Describe an object with these keys and no others."""
    found: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return found | ({"required": list(required)} if required else {})


def kubernetes(name: str) -> Schema:
    """Describe what Kubernetes calls so, such as core.v1.Toleration."""
    return {"$ref": f"#/definitions/io.k8s.api.{name}"}


NAME = r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$"
PORT = whole(1, 65535)
SECONDS = whole(0, 3600)
MEMORY = text(r"^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|k|M|G)?$") | {"type": ["string", "integer"]}
CPU = text(r"^([0-9]+m|[0-9]+(\.[0-9]+)?)$") | {"type": ["string", "number"]}
PROBE = closed(
    *("periodSeconds", "timeoutSeconds", "failureThreshold"),
    periodSeconds=whole(1, 300),
    timeoutSeconds=whole(1, 300),
    failureThreshold=whole(1, 3600),
)
HOST = text(r"^(\*\.)?[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")
PATH = text("^/")

# What a default cannot tell. Bounds of settings are those of app/settings.py, by a test.
KINDS: Mapping[str, Schema] = {
    "image.digest": text("^(sha256:[0-9a-f]{64})?$"),
    # No fraction: YAML reads 1.10 as 1.1.
    "image.tag": text(r"^[A-Za-z0-9_.+-]{0,128}$") | {"type": ["string", "integer"]},
    "image.pullPolicy": choice("Always", "IfNotPresent", "Never"),
    "imagePullSecrets": many(closed("name", name=text(NAME))),
    "fullnameOverride": text("^([a-z]([a-z0-9-]{0,48}[a-z0-9])?)?$"),
    "replicas": whole(1, 1000),
    "strategy.maxSurge": amount(0),
    "strategy.maxUnavailable": amount(0),
    "strategy.minReadySeconds": whole(0, 300),
    "autoscaling.minReplicas": whole(1, 1000),
    "autoscaling.maxReplicas": whole(1, 1000),
    "autoscaling.cpuPercent": whole(1, 1000),
    "autoscaling.scaleDownSeconds": SECONDS,
    "podDisruptionBudget.maxUnavailable": amount(1),
    "server.workers": whole(1, 64),
    "server.workerMemoryMiB": whole(32),
    "server.requestTimeoutSeconds": above_zero(3600),
    "server.maxBodyBytes": whole(1),
    "server.uploadMinBytesPerSecond": whole(1),
    "server.workerTimeoutSeconds": whole(2, 300),
    "server.startupSeconds": above_zero(600),
    "server.shutdownSeconds": whole(2, 3600),
    "server.preStopSeconds": SECONDS,
    "server.terminationGracePeriodSeconds": whole(0, 7200),
    "server.keepAliveSeconds": whole(1, 86400),
    "server.proxyIdleSeconds": whole(0, 86400),
    "server.trustedProxies": many(text(r"^(\*|[0-9A-Fa-f.:]+(/[0-9]{1,3})?)$")),
    "server.pathPrefix": text("^(/[A-Za-z0-9._~-]+)*$"),
    "processPool.size": whole(1, 64),
    "processPool.memoryMiB": whole(16),
    "processPool.waitSeconds": above_zero(60),
    "processPool.timeoutSeconds": above_zero(3600),
    "httpClient.poolTimeoutSeconds": above_zero(600),
    "httpClient.connectTimeoutSeconds": above_zero(600),
    "httpClient.totalTimeoutSeconds": above_zero(600),
    "database.existingSecret": text(NAME.replace("^", "^(").replace("$", ")?$")),
    "database.urlKey": text("^[A-Za-z0-9._-]+$"),
    "database.migrationUrlKey": text("^[A-Za-z0-9._-]*$"),
    "database.url": text("^(postgres(ql)?([+]asyncpg)?://.+)?$"),
    "database.port": PORT,
    "database.poolSize": whole(1, 500),
    "database.maxOverflow": whole(0, 500),
    "database.poolTimeoutSeconds": above_zero(60),
    "database.statementTimeoutMs": whole(1, 3_600_000),
    "migrations.timeoutSeconds": whole(1, 86400),
    "migrations.retries": whole(0, 10),
    "tracing.endpoint": text("^(https?://.+)?$"),
    "tracing.sampleRatio": {"type": "number", "minimum": 0, "maximum": 1},
    "config": strings(names="^[A-Z][A-Z0-9_]*$"),
    "resources.requests.cpu": CPU,
    "resources.requests.memory": MEMORY,
    "resources.requests.ephemeral-storage": MEMORY,
    # A limit of CPU has no default: it slows a pod down while the node has CPU to spare.
    "resources.limits": closed(
        *("memory", "ephemeral-storage"),
        **{"memory": MEMORY, "ephemeral-storage": MEMORY, "cpu": CPU},
    ),
    "memoryVolumeMiB": whole(1),
    "probes.startup": PROBE,
    "probes.liveness": PROBE,
    "probes.readiness": PROBE,
    "service.type": choice("ClusterIP", "NodePort", "LoadBalancer"),
    "service.port": PORT,
    "service.annotations": strings(),
    "ingress.annotations": strings(),
    "ingress.hosts": many(closed("host", host=HOST, path=PATH)),
    "ingress.tls": many(kubernetes("networking.v1.IngressTLS")),
    "httpRoute.annotations": strings(),
    "httpRoute.parentRefs": many(
        closed(
            "name",
            group={"type": "string"},
            kind={"type": "string"},
            name=text(NAME),
            namespace=text(NAME),
            sectionName=text(NAME),
            port=PORT,
        )
    ),
    "httpRoute.hostnames": many(HOST),
    "httpRoute.path": PATH,
    "networkPolicy.ingressFrom": many(kubernetes("networking.v1.NetworkPolicyPeer")),
    "networkPolicy.scrapersFrom": many(kubernetes("networking.v1.NetworkPolicyPeer")),
    "networkPolicy.databaseTo": many(kubernetes("networking.v1.NetworkPolicyPeer")),
    "networkPolicy.egress": many(kubernetes("networking.v1.NetworkPolicyEgressRule")),
    "metrics.serviceMonitor.interval": text("^[0-9]+(ms|s|m)$"),
    "metrics.serviceMonitor.labels": strings(),
    "metrics.alerts.labels": strings(),
    "metrics.alerts.errorRatio": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
    "metrics.alerts.loopLagSeconds": above_zero(60),
    "metrics.dashboard.labels": strings(),
    "serviceAccount.annotations": strings(),
    "podAnnotations": strings(),
    "podLabels": strings(),
    "nodeSelector": strings(),
    "tolerations": many(kubernetes("core.v1.Toleration")),
    "affinity": kubernetes("core.v1.Affinity"),
    "extraEnv": many(
        closed(
            "name",
            name={"type": "string"},
            value=TEXT,
            valueFrom=kubernetes("core.v1.EnvVarSource"),
        )
    ),
    "extraEnvFrom": many(kubernetes("core.v1.EnvFromSource")),
    "extraVolumes": many(kubernetes("core.v1.Volume")),
    "extraVolumeMounts": many(kubernetes("core.v1.VolumeMount")),
    "sidecars": many(kubernetes("core.v1.Container")),
    "tests.paths": many(PATH),
}


@dataclass(frozen=True)
class Value:
    """One value that people may set."""

    path: str
    default: object
    description: str


def values(source: str) -> Iterator[Value]:
    """Yield each value of a values.yaml that is described, in its order."""
    defaults = yaml.safe_load(source)
    stack: list[tuple[int, str]] = []
    description = ""
    for line in source.splitlines():
        if found := re.match(r" *# -- (.*)", line):
            description = found[1]
        elif found := re.match(r"( *)([\w-]+):", line):
            depth = len(found[1])
            stack = [entry for entry in stack if entry[0] < depth] + [(depth, found[2])]
            if description:
                names = [name for _, name in stack]
                yield Value(".".join(names), _at(defaults, names), description)
            description = ""


def _at(tree: object, names: list[str]) -> object:
    for name in names:
        tree = tree[name]  # type: ignore[index]  # a path that was just read from it
    return tree


def schema(source: str) -> Schema:
    """Return the schema of a values.yaml: each object is closed.

    Only what is empty by default may be left out. `--reuse-values` leaves out what came later.
    """
    root = _object(yaml.safe_load(source), "")
    # A chart that is a dependency is handed the first, and the usual name of its condition.
    root["properties"] |= {"global": {"type": "object"}, "enabled": {"type": "boolean"}}
    head = {"$schema": "http://json-schema.org/draft-07/schema#", "title": "Values of the chart"}
    return {**head, **root, "definitions": _definitions(json.dumps(root))}


def _object(tree: Mapping[str, Any], path: str) -> Schema:
    properties = {key: _kind(value, f"{path}.{key}".lstrip(".")) for key, value in tree.items()}
    required = [key for key, value in tree.items() if value or type(value) in {int, float}]
    return closed(*required, **properties)


def _kind(default: object, path: str) -> Schema:
    if path in KINDS:
        return KINDS[path]
    if isinstance(default, dict) and default:
        return _object(default, path)
    for type_, name in ((bool, "boolean"), (str, "string")):
        if isinstance(default, type_):
            return {"type": name}
    if isinstance(default, int):
        return whole()
    message = f"say in KINDS what {path} may be"
    raise LookupError(message)


def _definitions(referring: str) -> Schema:
    found_package = find_spec("kubernetes_validate")
    if found_package is None or found_package.origin is None:
        sys.exit("error: kubernetes-validate is not installed; `make setup` does it")
    folder = Path(found_package.origin).parent / "kubernetes-json-schema"
    everything = json.loads((folder / DEFINITIONS).read_text())["$defs"]
    found: Schema = {}
    wanted = _references(referring)
    while wanted:
        name = wanted.pop()
        found[name] = _terse(everything[name])
        wanted |= _references(json.dumps(found[name])) - set(found)
    return dict(sorted(found.items()))


def _references(schema: str) -> set[str]:
    return set(re.findall(r'"#/(?:\$defs|definitions)/([\w.-]+)"', schema))


def _terse(schema: Any) -> Any:  # noqa: ANN401 (JSON)
    """Drop what only tells, and write references as older drafts want them."""
    if isinstance(schema, list):
        return [_terse(each) for each in schema]
    if isinstance(schema, str):
        return schema.replace("#/$defs/", "#/definitions/")
    if not isinstance(schema, dict):
        return schema
    return {
        key: _terse(each)
        for key, each in schema.items()
        if key != "format"
        and not key.startswith("x-kubernetes")
        and not (key == "description" and isinstance(each, str))
    }


def schema_text(source: str) -> str:
    """Return the file values.schema.json, one definition of Kubernetes a line."""
    found = schema(source)
    definitions = found.pop("definitions")
    lines = [f"    {json.dumps(name)}: {json.dumps(each)}" for name, each in definitions.items()]
    head = json.dumps(found, indent=2).removesuffix("\n}")
    return head + ',\n  "definitions": {\n' + ",\n".join(lines) + "\n  }\n}\n"


def readme(text: str, source: str) -> str:
    """Return the README's `text` with a fresh table in it."""
    rows = [
        f"| `{each.path}` | `{json.dumps(each.default)}` | {each.description} |"
        for each in values(source)
    ]
    table = "\n".join(["| value | default | meaning |", "|---|---|---|", *rows])
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def write(chart: Path) -> None:
    """Write both files of a chart."""
    source = (chart / "values.yaml").read_text(encoding="utf-8")
    (chart / "values.schema.json").write_text(schema_text(source), encoding="utf-8")
    page = chart / "README.md"
    page.write_text(readme(page.read_text(encoding="utf-8"), source), encoding="utf-8")


if __name__ == "__main__":
    write(CHART)
