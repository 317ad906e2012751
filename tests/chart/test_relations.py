"""Each rule on how objects fit each other finds what breaks it, and nothing in the chart."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart import relations, releases
from tests.chart.charts import Object
from tests.chart.objects import Release, title

# Through JSON, so that no two places are one object.
SMALL: list[Object] = json.loads(
    json.dumps(yaml.safe_load(Path(__file__).with_name("small.yaml").read_text(encoding="utf-8")))
)
OUTSIDE: dict[tuple[str, str], set[str]] = {
    ("Gateway", "public"): set(),
    ("Secret", "registry"): set(),
}
POD = "spec/template/spec"
SERVICE = f"{POD}/containers/0"
LABELS = "spec/template/metadata/labels"
HOOK = "metadata/annotations/helm.sh~hook"
OTHER = {"matchLabels": {"app": "another"}}
TWICE = [{"name": "tmp", "mountPath": "/tmp"}] * 2

# Object, where it is changed (None: taken away), what is found.
CASES: list[tuple[str, str, object, str]] = [
    # References.
    ("Deployment games", f"{POD}/serviceAccountName", "game", "refers to ServiceAccount game,"),
    (
        "Deployment games",
        f"{POD}/imagePullSecrets/0/name",
        "x",
        "nothing refers to Secret registry",
    ),
    ("Deployment games", f"{POD}/priorityClassName", "high", "refers to PriorityClass high,"),
    (
        "Deployment games",
        f"{POD}/initContainers",
        [{"envFrom": [{"secretRef": {"name": "x"}}]}],
        "x",
    ),
    ("Deployment games", f"{POD}/volumes/0/secret", {"secretName": "x"}, "refers to Secret x,"),
    ("Deployment games", f"{POD}/volumes/0/configMap", {"name": "x"}, "refers to ConfigMap x,"),
    (
        *("Deployment games", f"{POD}/volumes/0/persistentVolumeClaim", {"claimName": "x"}),
        "refers to PersistentVolumeClaim x,",
    ),
    ("Deployment games", f"{SERVICE}/envFrom/0/configMapRef/name", "x", "refers to ConfigMap x,"),
    (
        "Secret games",
        "stringData",
        {"uri": ""},
        "wants the key url of Secret games, which it lacks",
    ),
    ("Ingress games", "spec/tls", [{"secretName": "x"}], "refers to Secret x,"),
    ("Ingress games", "spec/ingressClassName", "x", "refers to IngressClass x,"),
    ("HTTPRoute games", "spec/parentRefs/0/name", "x", "refers to Gateway x,"),
    (
        "HorizontalPodAutoscaler games",
        "spec/scaleTargetRef/name",
        "x",
        "Deployment x, which is now",
    ),
    # Names and labels.
    ("Secret games", "metadata/name", "games-test", "Secret games, which is nowhere"),
    ("Job games-test", "metadata/name", "games-migration", "games-migration is there 2 times"),
    ("Secret games", "metadata/namespace", None, "not one namespace"),
    ("Secret games", "metadata/namespace", "default", "not one namespace"),
    ("Secret games", "metadata/labels", {}, "Secret games lacks the labels"),
    ("Secret games", "metadata/labels/app.kubernetes.io~instance", "x", "not one value of"),
    ("Job games-test", f"{LABELS}/app.kubernetes.io~name", "x", "not one value of"),
    ("Job games-test", f"{LABELS}/app.kubernetes.io~component", "x", "and its pods differ in"),
    # Selectors.
    ("Deployment games", "spec/selector", OTHER, "Deployment games selects without"),
    ("Deployment games", "spec/selector/matchLabels/version", "1", "['version'], which may change"),
    ("Deployment games", "spec/selector", OTHER, "Deployment games selects the pods of nothing"),
    (
        *("Deployment games", f"{POD}/topologySpreadConstraints/0/labelSelector", OTHER),
        "spreading over zone selects the pods of nothing",
    ),
    (
        "Service games",
        "spec/selector/app.kubernetes.io~component",
        None,
        "Service games selects the",
    ),
    (
        "PodDisruptionBudget games",
        "spec/selector",
        OTHER,
        "PodDisruptionBudget games selects the pods",
    ),
    (
        *("PodDisruptionBudget games", "spec/selector/matchLabels/app.kubernetes.io~version"),
        *("1", "selects by ['app.kubernetes.io/version'], which upgrades change"),
    ),
    (
        *("Service games", "spec/selector/helm.sh~chart"),
        *("1", "selects by ['helm.sh/chart'], which upgrades change"),
    ),
    ("ServiceMonitor games", "spec/selector", OTHER, "finds 0 Services, not one"),
    ("NetworkPolicy games", "spec/podSelector", OTHER, "NetworkPolicy games selects no pod"),
    # Ports.
    ("Service games", "spec/ports/0/targetPort", "web", "Deployment games has no port web"),
    ("Service games", "spec/ports/1/targetPort", 9001, "Deployment games has no port 9001"),
    ("Service games", "spec/ports/0/protocol", "UDP", "differ in the protocol of http"),
    ("Deployment games", f"{SERVICE}/ports/1/containerPort", 8000, "has the port 8000 twice"),
    ("Deployment games", f"{SERVICE}/ports/1/name", "http", "has the port http twice"),
    (
        "Deployment games",
        f"{SERVICE}/livenessProbe/httpGet/port",
        "web",
        "livenessProbe asks port web",
    ),
    (
        "Deployment games",
        f"{SERVICE}/readinessProbe/httpGet/port",
        80,
        "readinessProbe asks port 80",
    ),
    ("ConfigMap games", "data/PORT", "8080", "PORT is 8080, its port http 8000"),
    ("ConfigMap games", "data/METRICS_PORT", "9090", "METRICS_PORT is 9090, its port metrics 9000"),
    (
        "Ingress games",
        "spec/rules/0/http/paths/0/backend/service/name",
        "x",
        "asks x:http, which is",
    ),
    (
        *("Ingress games", "spec/rules/0/http/paths/0/backend/service/port", {"number": 81}),
        "Ingress games asks games:81, which is no Service",
    ),
    (
        "HTTPRoute games",
        "spec/rules/0/backendRefs/0/port",
        81,
        "asks games:81, which is no Service",
    ),
    ("ServiceMonitor games", "spec/endpoints/0/port", "x", "scrapes port x, not one of"),
    ("Job games-test", f"{SERVICE}/command/2", "http://game", "asks game:80, which is no Service"),
    (
        "Job games-test",
        f"{SERVICE}/command/2",
        "http://games:81",
        "asks games:81, which is no Service",
    ),
    ("Job games-test", f"{SERVICE}/command/2", "", "never asks Service games"),
    # Queries.
    ("PrometheusRule games", "spec/groups", ['up{service="x"}'], "metrics of Service x,"),
    ("PrometheusRule games", "spec/groups", ['up{namespace="x"}'], "metrics of the namespace x"),
    (
        "ConfigMap games",
        "data/board.json",
        '{"expr": "up{service=\\"x\\"}"}',
        "metrics of Service x,",
    ),
    # Who reaches whom.
    ("NetworkPolicy games", "spec/policyTypes", ["Ingress"], "is not about both directions"),
    ("NetworkPolicy games", "spec/ingress/0/ports/0/port", 80, "opens port 80, which no pod has"),
    ("NetworkPolicy games", "spec/ingress/0/ports/1", None, "lets nobody in to port 9000"),
    (
        *("NetworkPolicy games", "spec/ingress/0/from/0/podSelector", OTHER),
        "keeps Job games-test from port 8000 of Deployment games (ingress)",
    ),
    (
        *("NetworkPolicy games", "spec/ingress/0/from/0/namespaceSelector", {}),
        "keeps Job games-test from port 8000 of Deployment games (ingress)",
    ),
    (
        *("NetworkPolicy games", "spec/egress/2/to/0/podSelector", OTHER),
        "keeps Job games-test from port 9000 of Deployment games (egress)",
    ),
    ("NetworkPolicy games", "spec/egress/0/ports/0", None, "from names at port 53/UDP"),
    ("NetworkPolicy games", "spec/egress/0/ports/1", None, "from names at port 53/TCP"),
    ("NetworkPolicy games", "spec/egress/0/ports/2", None, "from DATABASE_URL at port 5432/TCP"),
    (
        "NetworkPolicy games",
        "spec/egress/1/ports/0/endPort",
        None,
        "from OTEL_EXPORTER_OTLP_ENDPOINT",
    ),
    (
        "Secret games",
        "stringData/url",
        "postgresql://db:6432/shop",
        "DATABASE_URL at port 6432/TCP",
    ),
    (
        "NetworkPolicy games-migration",
        "spec/egress",
        [],
        "games-migration from DATABASE_URL at port",
    ),
    ("NetworkPolicy games-migration", HOOK, None, "games-migration runs without a NetworkPolicy"),
    ("NetworkPolicy games-migration", f"{HOOK}-weight", "0", "runs without a NetworkPolicy"),
    ("NetworkPolicy games-migration", HOOK, "pre-install", "runs without a NetworkPolicy"),
    # Scaling and leaving.
    ("Deployment games", "spec/replicas", 1, "fight over the number of pods"),
    ("Deployment games", "spec/replicas", 5, "fight over the number of pods"),
    (
        "Deployment games",
        f"{SERVICE}/resources/requests/cpu",
        None,
        "measures cpu against a request",
    ),
    (
        *("HorizontalPodAutoscaler games", "spec/metrics/0/containerResource/container", "x"),
        "measures cpu against a request that is not there",
    ),
    ("PodDisruptionBudget games", "spec/maxUnavailable", 0, "lets no node be drained"),
    ("Deployment games", "spec/replicas", 1, "guards a single pod"),
    ("Deployment games", f"{SERVICE}/volumeMounts/0/name", "x", "mounts x, which is no volume"),
    ("Deployment games", f"{SERVICE}/volumeMounts", [], "mounts its volume tmp nowhere"),
    ("Deployment games", f"{SERVICE}/volumeMounts", TWICE, "mounts a path twice"),
    ("Deployment games", f"{POD}/volumes", TWICE, "has a volume twice"),
    ("Deployment games", f"{POD}/terminationGracePeriodSeconds", 31, "after 31 s, and needs 32 s"),
    (
        *(
            "Deployment games",
            f"{SERVICE}/lifecycle/preStop",
            {"exec": {"command": ["sleep", "6"]}},
        ),
        "after 32 s, and needs 33 s",
    ),
    ("ConfigMap games", "data/SHUTDOWN_SECONDS", "20.5", "after 32 s, and needs 32.5 s"),
    # Hooks.
    ("Job games-migration", HOOK, "pre-installation", "which never happens"),
    (
        "Job games-migration",
        f"{HOOK}-delete-policy",
        "hook-succeeded",
        "in the way of its successor",
    ),
    ("Job games-migration", HOOK, None, "is no hook, and a Job cannot be changed"),
    (
        "Job games-migration",
        f"{POD}/serviceAccountName",
        "games",
        "before there is a ServiceAccount",
    ),
    ("ServiceAccount games-migration", f"{HOOK}-weight", "0", "runs before there is a ServiceAcc"),
    (
        "ServiceAccount games-migration",
        HOOK,
        "pre-upgrade",
        "runs before there is a ServiceAccount",
    ),
    ("Job games-test", f"{POD}/restartPolicy", "Always", "Job games-test restarts for ever"),
]


def change(value: Any, path: str, new: object) -> None:  # noqa: ANN401 (any part of a manifest)
    """Write `new` where `path` leads; ~ in a name stands for a slash, digits for an index."""
    names = [name.replace("~", "/") for name in path.split("/")]
    *way, last = [int(name) if name.isdigit() else name for name in names]
    for name in way:
        value = value[name]
    if new is None:
        del value[last]
    else:
        value[last] = new


def broken(name: str, path: str, new: object) -> list[Object]:
    """Return the small release with one thing changed."""
    objects = [copy.deepcopy(each) for each in SMALL]
    (chosen,) = [each for each in objects if title(each) == name]
    change(chosen, path, new)
    return objects


def test_nothing_is_found_where_everything_fits() -> None:
    assert relations.problems(SMALL, OUTSIDE) == []


@pytest.mark.parametrize(
    ("name", "path", "new", "found"), CASES, ids=[f"{case[0]}: {case[3]}" for case in CASES]
)
def test_what_does_not_fit_is_found(name: str, path: str, new: object, found: str) -> None:
    told = relations.problems(broken(name, path, new), OUTSIDE)
    assert any(found in sentence for sentence in told), told


def test_each_rule_has_a_case() -> None:
    silent = [
        rule.__name__
        for rule in relations.RULES
        if not any(list(rule(Release(broken(*case[:3])))) for case in CASES)
    ]
    assert silent == []


@pytest.mark.parametrize("name", releases.EXAMPLES)
def test_the_objects_of_a_release_fit_each_other(name: str) -> None:
    objects = releases.rendered()[name].objects
    assert len(objects) >= 8
    assert relations.problems(objects, releases.EXAMPLES[name].outside) == []
