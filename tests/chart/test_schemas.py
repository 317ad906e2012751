"""Kubernetes, from the oldest version that the chart supports to the newest, knows every field."""

from pathlib import Path

import pytest

from tests.chart import releases, schemas
from tests.chart.charts import EVERYTHING, Object, render
from tests.chart.test_relations import change

# Object, a field that there is not or a value of another type, what is said of it.
WRONG: list[tuple[str, str, object, str]] = [
    ("Deployment", "spec/template/spec/containers/0/livenesProbe", {}, "livenesProbe"),
    ("Deployment", "spec/replicas", "two", "/spec/replicas"),
    ("Ingress", "spec/rules/0/http/paths/0/backend/service/prot", 80, "prot"),
    ("NetworkPolicy", "spec/egress/0/port", [], "'port'"),
    ("HTTPRoute", "spec/rules/0/matchs", [], "'matchs'"),
    ("PrometheusRule", "spec/groups/0/rules/0/annotation", {}, "'annotation'"),
    ("ServiceMonitor", "spec/endpoints/0/intervall", "30s", "'intervall'"),
    ("ServiceMonitor", "spec/endpoints/0/port", 9000, "/spec/endpoints/0/port"),
    ("Service", "kind", "Servic", "could not find schema"),
]


@pytest.mark.parametrize("version", schemas.VERSIONS)
def test_every_field_is_known(version: str, tmp_path: Path) -> None:
    manifests = releases.write(tmp_path, version)
    count = sum(len(each.objects) for each in releases.rendered(version).values())
    assert schemas.conform(manifests, version) == (count, [])


@pytest.mark.parametrize(("kind", "path", "new", "said"), WRONG)
def test_what_kubernetes_does_not_know_is_found(
    kind: str, path: str, new: object, said: str, tmp_path: Path
) -> None:
    changed: Object = render(EVERYTHING).find(kind)
    change(changed, path, new)
    valid, told = schemas.conform([releases.save([changed], tmp_path / "one.yaml")], "1.33")
    assert (valid, len(told)) == (0, 1)
    assert said in told[0]


def test_a_field_is_unknown_before_the_version_that_brings_it(tmp_path: Path) -> None:
    deployment = render().find("Deployment")
    change(deployment, "spec/template/spec/containers/0/restartPolicyRules", [])
    manifest = releases.save([deployment], tmp_path / "new.yaml")
    assert schemas.conform([manifest], "1.37") == (1, [])
    _, told = schemas.conform([manifest], "1.33")
    assert "'restartPolicyRules'" in told[0]
