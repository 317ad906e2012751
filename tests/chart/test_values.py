"""values.yaml, its schema and its table belong together, and a typo anywhere is refused."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart import charts
from tests.chart.charts import CHART
from tools import chart_values

SOURCE = (CHART / "values.yaml").read_text(encoding="utf-8")


def leaves(tree: dict[str, Any], path: str = "") -> Iterator[str]:
    for key, value in tree.items():
        here = f"{path}.{key}".lstrip(".")
        if isinstance(value, dict) and value and here != "metrics.dashboard.labels":
            yield from leaves(value, here)
        else:
            yield here


def test_every_value_has_a_description() -> None:
    described = [each.path for each in chart_values.values(SOURCE)]
    assert described == list(leaves(charts.defaults()))


def test_the_schema_is_fresh() -> None:
    written = (CHART / "values.schema.json").read_text(encoding="utf-8")
    assert written == chart_values.schema_text(SOURCE), "run tools/chart_values.py"


def test_the_table_is_fresh() -> None:
    written = (CHART / "README.md").read_text(encoding="utf-8")
    assert written == chart_values.readme(written, SOURCE), "run tools/chart_values.py"


def test_a_value_of_an_unknown_kind_is_not_guessed() -> None:
    with pytest.raises(LookupError, match="say in KINDS what new may be"):
        chart_values.schema("new: []\n")


EXPRESSION = {"key": "a", "operator": "Exists"}
# What every list may hold, complete enough to put a typo into each object of it.
SAMPLES: dict[str, Any] = {
    "imagePullSecrets": [{"name": "registry"}],
    "ingress": {"hosts": [{"host": "example.org"}], "tls": [{"secretName": "certificate"}]},
    "httpRoute": {"parentRefs": [{"name": "public"}]},
    "networkPolicy": {
        "ingressFrom": [{"namespaceSelector": {}, "podSelector": {}}],
        "scrapersFrom": [{"namespaceSelector": {"matchExpressions": [EXPRESSION]}}],
        "databaseTo": [{"ipBlock": {"cidr": "10.0.0.0/8"}}],
        "egress": [{"ports": [{"port": 443}], "to": [{"podSelector": {}}]}],
    },
    "tolerations": [{"key": "spot", "operator": "Exists"}],
    "affinity": {
        "podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [
                {"topologyKey": "zone", "labelSelector": {"matchExpressions": [EXPRESSION]}}
            ]
        }
    },
    "extraEnv": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}}],
    "extraEnvFrom": [{"configMapRef": {"name": "a"}}],
    "extraVolumes": [
        {"name": "ca", "configMap": {"name": "ca", "items": [{"key": "a", "path": "b"}]}}
    ],
    "extraVolumeMounts": [{"name": "ca", "mountPath": "/ca"}],
    "sidecars": [
        {"name": "proxy", "image": "proxy", "resources": {}, "ports": [{"containerPort": 1}]}
    ],
    "resources": {"limits": {"cpu": "2"}},
}
# Names that people choose themselves.
OPEN = {
    "config",
    "httpRoute.annotations",
    "ingress.annotations",
    "metrics.alerts.labels",
    "metrics.dashboard.labels",
    "metrics.serviceMonitor.labels",
    "nodeSelector",
    "podAnnotations",
    "podLabels",
    "service.annotations",
    "serviceAccount.annotations",
}


def typos(tree: object, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the tree once for each object in it, with one key too many there."""
    if isinstance(tree, dict):
        if path not in OPEN:
            yield path, tree | {"tpyo": 1}
        for key, value in tree.items():
            here = f"{path}.{key}".lstrip(".")
            yield from ((where, tree | {key: broken}) for where, broken in typos(value, here))
    elif isinstance(tree, list):
        for number, value in enumerate(tree):
            for where, broken in typos(value, f"{path}[{number}]"):
                yield where, [*tree[:number], broken, *tree[number + 1 :]]


def test_a_typo_in_any_object_is_refused_by_name() -> None:
    whole = charts.merged(charts.defaults(), SAMPLES)
    assert not charts.render(whole).refusal
    broken = dict(typos(whole))
    assert len(broken) > 60
    for helm in charts.helms():
        many = charts.render_all(list(broken.values()), helm=helm)
        accepted = [where for where, each in zip(broken, many, strict=True) if not each.refusal]
        unnamed = [each.refusal for each in many if "tpyo" not in each.refusal]
        assert (accepted, unnamed) == ([], [])


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("image.pullPolicy", "Sometimes"),
        ("image.tag", 1.1),
        ("image.tag", True),
        ("image.digest", "sha256:12"),
        ("replicas", 0),
        ("replicas", "2"),
        ("strategy.maxSurge", "150%"),
        ("strategy.maxSurge", -1),
        ("podDisruptionBudget.maxUnavailable", 0),
        ("podDisruptionBudget.maxUnavailable", "0%"),
        ("server.workers", 0),
        ("server.workers", 1.5),
        ("server.shutdownSeconds", 2.5),
        ("server.uploadMinBytesPerSecond", 0),
        ("database.url", "mysql://host/name"),
        ("database.port", 0),
        ("tracing.endpoint", "collector:4318"),
        ("tracing.sampleRatio", 2),
        ("config.lower", "case"),
        ("config.LOG_LEVEL", ["INFO"]),
        ("extraEnv", [{"name": "A", "value": ["a"]}]),
        ("server.trustedProxies", ["ingress"]),
        ("server.pathPrefix", "/games/"),
        ("server.pathPrefix", "games"),
        ("server.workers", None),
        ("resources.limits.memory", "512MB"),
        ("resources.limits.memory", None),
        ("resources.requests.cpu", None),
        ("service.type", "ExternalName"),
        ("service.port", 70000),
        ("fullnameOverride", "Games"),
        ("metrics.serviceMonitor.interval", "often"),
        ("probes.liveness.failureThreshold", 0),
        ("tests.paths", ["health"]),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(path: str, value: object) -> None:
    refusal = charts.render(charts.nested(path, value)).refusal
    assert "values don't meet the specifications of the schema" in refusal
    assert path.rsplit(".", maxsplit=1)[-1] in refusal


def without_what_is_empty(tree: dict[str, Any]) -> dict[str, Any]:
    return {
        name: without_what_is_empty(value) if isinstance(value, dict) else value
        for name, value in tree.items()
        if value or type(value) is int
    }


@pytest.mark.parametrize("helm", ["3", "4"])
def test_what_is_empty_by_default_may_be_missing(helm: str, tmp_path: Path) -> None:
    """`helm upgrade --reuse-values` puts an older release's values in the place of values.yaml."""
    chart = shutil.copytree(CHART, tmp_path / "chart")
    fewer = without_what_is_empty(charts.defaults())
    assert len(list(leaves(fewer))) < len(list(leaves(charts.defaults()))) - 30
    (chart / "values.yaml").write_text(yaml.safe_dump(fewer), encoding="utf-8")
    for values in ({}, charts.EVERYTHING):
        whole = charts.render(values, helm=helm)
        assert not whole.refusal
        assert charts.render(values, helm=helm, chart=chart) == whole
