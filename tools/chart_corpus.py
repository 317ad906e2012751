"""Values that show whether two versions of a chart behave alike.

Each release of the corpus is rendered as a whole, NOTES among it, with the fakes of a cluster where
a template asks one. Two charts that write the same for all of them are the same to their users.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema_rs import validator_for

from tests.chart.charts import Values, merged, nested
from tests.chart.limits import AT_THE_LIMIT
from tools.chart_examples import ALONE, ODD, ODDER, OTHERS, ROOMY, UNEQUAL, URL


@dataclass(frozen=True)
class Release:
    """One rendering: values, and what surrounds them."""

    name: str
    values: Values
    surroundings: Values = field(default_factory=dict)

    def test(self) -> dict[str, Any]:
        """Return a test of helm-unittest that writes down all that it renders."""
        about = {"it": self.name, "set": dict(self.values), **self.surroundings}
        return about | {"asserts": [{"matchSnapshot": {}}]}


@cache
def parts(chart: Path) -> list[tuple[str, list[Release]]]:
    """Return the corpus: a name for the chart, and releases of it; what tells most comes first.

    What the schema refuses never reaches the templates, and is left out.
    """
    defaults: Values = yaml.safe_load((chart / "values.yaml").read_text(encoding="utf-8"))
    schema = json.loads((chart / "values.schema.json").read_text(encoding="utf-8"))
    accepts = validator_for(schema).is_valid
    whole = [each for each in releases(defaults) if accepts(merged(defaults, each.values))]
    telling = [release for release in whole if release.name.startswith(TELLING)]
    rest = [release for release in whole if release not in telling]
    return [("service", telling), ("true", whole[:2]), ("service", rest)]


OPENSHIFT = "security.openshift.io/v1"
TELLING = ("defaults", "everything", "as true", "database.url", "in ", "PORT", "cluster with 5")


def releases(defaults: Values) -> Iterator[Release]:
    """Yield every release of the corpus."""
    yield Release("defaults", {})
    yield Release("everything", ROOMY)
    for path in leaves(defaults):
        for number, value in enumerate(others(path, at(defaults, path))):
            yield Release(f"{path} {number}", merged(UNEQUAL, merged(ROOMY, nested(path, value))))
            if path in ALONE:
                yield Release(f"{path} {number}, alone", nested(path, value))
    for name, base, path, *pair in AT_THE_LIMIT:
        for number, value in enumerate(pair):
            values = merged(base, nested(path, value))
            yield Release(f"{name} {path} {number}", values)
            yield Release(f"{name} {path} {number}, unequal", merged(UNEQUAL, values))
    yield from _pairs()
    yield from _surroundings()


def _pairs() -> Iterator[Release]:
    """Yield what shows only when two values come together."""
    for name in ("config", "extraEnv"):
        for setting in ("PORT", "DATABASE_URL", "OTEL_SERVICE_NAME"):
            given = {"config": {setting: "1"}, "extraEnv": [{"name": setting, "value": "1"}]}
            yield Release(f"{setting} in {name}", {name: given[name]})
    account = {"serviceAccount": {"name": ODD, "annotations": {"role": ODD}}}
    yield Release("account", account)
    yield Release("address and key", {"database": {"url": URL, "urlKey": ODD}})
    around = {"pgbouncer": True, "migrationUrlKey": ODD}
    yield Release("around pgbouncer", {"database": around})
    for name, more in (("no migration", {"enabled": False}), ("migration", {})):
        yield Release(f"pgbouncer, {name}", {"database": {"pgbouncer": True}, "migrations": more})
    yield Release("address and migration's key", {"database": {"url": URL, **around}})
    given = {"config": {"LOG_LEVEL": ODD}, "extraEnv": [{"name": "LOG_LEVEL", "value": ODDER}]}
    yield Release("config and extraEnv", given)
    yield Release(
        "no migration, address", {"database": {"url": URL}, "migrations": {"enabled": False}}
    )
    yield Release(
        "no policy, address", {"database": {"url": URL}, "networkPolicy": {"enabled": False}}
    )
    yield Release("many refusals", {"replicas": 60, "server": {"workers": 5, "preStopSeconds": 9}})
    for missing in (2, "25%"):
        strategy = {"maxSurge": 0, "maxUnavailable": missing}
        values = {"replicas": 8, "strategy": strategy, "database": {"maxConnections": 1000}}
        yield Release(f"{missing} missing", values)
    for grace in range(51, 54):
        server = {"terminationGracePeriodSeconds": grace}
        yield Release(f"grace {grace}", {"replicas": 9, "server": server})
    # More than a map of Go keeps in a ring: no order is the alphabet's by chance.
    settings = ["PORT", "HOST", "APP_ENV", "SHUTDOWN_SECONDS", "DATABASE_URL", "METRICS_PORT"]
    settings += ["WEB_CONCURRENCY", "WORKER_MEMORY_MIB", "STARTUP_SECONDS", "KEEP_ALIVE_SECONDS"]
    settings += ["PROCESS_POOL_SIZE", "DATABASE_POOL_SIZE", "DATABASE_PGBOUNCER"]
    yield Release("many settings", {"config": dict.fromkeys(settings, "1")})
    for low in (1, 2):
        scaling = {"enabled": True, "minReplicas": low}
        yield Release(f"floor {low}", {"replicas": 3 - low, "autoscaling": scaling})


def _surroundings() -> Iterator[Release]:
    cut = (f"my-service-{'x' * 42}", f"my-service-{'x' * 38}-{'y' * 3}", f"{'x' * 41}-{'y' * 9}")
    for release in (ODD, "service", "my-service", "v1.2", "2048", *cut, "x" * 49):
        for named in ({}, {"fullnameOverride": ODD}, ROOMY):
            yield Release(f"as {release} {len(named)}", named, {"release": {"name": release}})
    for minor in (29, 30, 31):
        capabilities = {"capabilities": {"majorVersion": 1, "minorVersion": minor}}
        yield Release(f"on 1.{minor}", ROOMY, capabilities)
    for version in ("1.2.3+build", ODDER, "v" * 70):
        yield Release(
            f"version {version}", {}, {"chart": {"version": "1.0.0+x", "appVersion": version}}
        )
    yield Release("on OpenShift", {}, {"capabilities": {"apiVersions": [OPENSHIFT]}})
    for namespace in (ODD, ODDER):
        yield Release(f"in {namespace}", ROOMY, {"release": {"namespace": namespace}})
    for name, objects in CLUSTERS.items():
        for scaled in (True, False):
            for more in DATABASES:
                values = {"autoscaling": {"enabled": scaled, "minReplicas": 3}, "database": more}
                yield Release(f"{name} {scaled} {len(str(more))}", values, _cluster(objects))


def _object(kind: str, name: str, version: str = "v1", **more: object) -> dict[str, Any]:
    marked = {"without-replicas": "true"} if more.pop("marked", False) else {}
    metadata = {"name": name, "namespace": "NAMESPACE", "annotations": marked}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **more}


_ACCOUNT = _object("ServiceAccount", "default")
_SECRETS = [
    _object("Secret", name, data={"url": name})
    for name in ("RELEASE-NAME-service-database", "vault")
]
DATABASES: list[Values] = [
    {},
    {"existingSecret": "vault"},  # pragma: allowlist secret
    {"existingSecret": "vault", "migrationUrlKey": "direct"},  # pragma: allowlist secret
    {"url": URL},
]
CLUSTERS = {
    f"cluster with {replicas} pods{', marked' * marked}, {len(secrets)} secrets": [
        _ACCOUNT,
        *secrets,
        _object(
            *("Deployment", "RELEASE-NAME-service", "apps/v1"),
            spec={"replicas": float(replicas)},
            marked=marked,
        ),
    ]
    for replicas in (2, 5, 9)
    for secrets in ([], _SECRETS)
    for marked in (False, True)
}


def _cluster(objects: list[dict[str, Any]]) -> dict[str, Any]:
    def resource(name: str, group: str = "") -> dict[str, Any]:
        found = {"group": group} if group else {}
        return {"gvr": found | {"version": "v1", "resource": name}, "namespaced": True}

    scheme = {
        "v1/Secret": resource("secrets"),
        "v1/ServiceAccount": resource("serviceaccounts"),
        "apps/v1/Deployment": resource("deployments", "apps"),
    }
    return {"kubernetesProvider": {"scheme": scheme, "objects": objects}}


def leaves(tree: Values, path: str = "") -> Iterator[str]:
    """Yield the path of every value."""
    for name, value in tree.items():
        here = f"{path}.{name}".lstrip(".")
        if isinstance(value, dict) and value and not here.endswith("labels"):
            yield from leaves(value, here)
        else:
            yield here


def at(tree: Values, path: str) -> object:
    """Return the value at a path."""
    found: Any = tree
    for name in path.split("."):
        found = found[name]
    return found


def others(path: str, value: object) -> list[Any]:
    """Return what a value could be instead of its default."""
    if path in OTHERS:
        return OTHERS[path]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int | float):
        return [value + 1, value + 0.5] if value else [1]
    return [{"a.example/b": ODD}] if isinstance(value, dict) else [ODD, ODDER]


def write(folder: Path, corpus: list[Release], templates: list[str]) -> None:
    """Write the corpus as a suite of helm-unittest; `templates` are rendered, or all."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    suite = {"suite": "corpus", "tests": [release.test() for release in corpus]}
    if templates:
        suite["templates"] = templates
    # JSON quotes every string; 1e3 would be a number otherwise.
    (folder / "corpus_test.yaml").write_text(json.dumps(suite), encoding="utf-8")
