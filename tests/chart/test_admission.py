"""A real API server takes every object of every release; a restricted namespace admits its pods.

Nothing is installed: all of it is a dry run in a namespace that is removed, but for the accounts
that pods name, and for the definitions of custom resources that the cluster lacks.
"""

import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import pytest
import yaml

from tests import baking
from tests.chart import charts, releases, schemas
from tests.chart.charts import Object, Rendered
from tests.chart.objects import Release
from tests.chart.test_relations import change

pytestmark = pytest.mark.e2e
SECONDS = 60
# Kubernetes guards its own groups: whoever defines something there must say who approved it.
APPROVAL = {"api-approved.kubernetes.io": "unapproved, for a test"}


@cache
def program() -> str:
    """Return kubectl, or skip, or fail in CI."""
    found = shutil.which("kubectl")
    if found is None or not os.environ.get("KUBECONFIG"):
        baking.missing("kubectl, or KUBECONFIG for a cluster to ask")
    return str(found)


def kubectl(*arguments: str, objects: Iterable[Object] = ()) -> subprocess.CompletedProcess[str]:
    """Run kubectl with objects as its input."""
    return subprocess.run(
        [program(), f"--request-timeout={SECONDS}s", *arguments],
        input=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}),
        capture_output=True,
        text=True,
        timeout=2 * SECONDS,
        check=False,
    )


def done(*arguments: str, objects: Iterable[Object] = ()) -> str:
    """Return what kubectl writes; fail with what it says."""
    result = kubectl(*arguments, objects=objects)
    assert result.returncode == 0, result.stderr
    return result.stdout


def refusals(objects: Iterable[Object], namespace: str) -> list[str]:
    """Return every error and warning of a dry run."""
    arguments = ("apply", "--dry-run=server", "--namespace", namespace, "--filename", "-")
    result = kubectl(*arguments, objects=objects)
    told = [line for line in result.stderr.splitlines() if line]
    assert told or result.returncode == 0
    return told


@pytest.fixture(scope="module")
def version() -> str:
    """The version of the cluster."""
    answer = json.loads(done("version", "--output", "json"))
    return str(answer["serverVersion"]["gitVersion"])


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    """A namespace that enforces `restricted`."""
    name = f"dry-run-{secrets.token_hex(3)}"
    done("create", "namespace", name)
    try:
        labels = [f"pod-security.kubernetes.io/{mode}=restricted" for mode in ("enforce", "warn")]
        done("label", "namespace", name, *labels)
        yield name
    finally:
        done("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="module")
def made(version: str, namespace: str) -> Iterator[dict[str, Rendered]]:
    """Every release for this cluster, which knows the custom resources while they are asked for."""
    there = done("get", "customresourcedefinitions", "--output", "name")
    new = []
    for path in schemas.definitions():
        definition = yaml.load(path.read_text(encoding="utf-8"), charts.LOADER)
        if f"/{definition['metadata']['name']}\n" not in there:
            definition["metadata"]["annotations"] |= APPROVAL
            new.append(definition)
    names = [f"customresourcedefinition/{each['metadata']['name']}" for each in new]
    try:
        if new:
            done("create", "--filename", "-", objects=new)
            done("wait", "--for=condition=Established", f"--timeout={SECONDS}s", *names)
        yield dict(releases.rendered(version, namespace))
    finally:
        if names:
            done("delete", *names)


def pods(rendered: Rendered) -> list[Object]:
    """Return the pods that the workloads of a release make."""
    return [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"pod-of-{pod.owner['kind'].lower()}-{pod.owner['metadata']['name']}"[:63],
                "labels": dict(pod.labels),
            },
            # A Deployment and an API server write this into what has none.
            "spec": {"restartPolicy": "Always", **pod.spec},
        }
        for pod in Release(rendered.objects).pods
    ]


@pytest.fixture(scope="module")
def accounts(made: dict[str, Rendered], namespace: str) -> None:
    """The accounts that pods name: without them no pod is admitted."""
    names = {pod["spec"]["serviceAccountName"] for each in made.values() for pod in pods(each)}
    for name in sorted(names):
        done("create", "serviceaccount", name, "--namespace", namespace)


def test_the_server_takes_every_object(made: dict[str, Rendered], namespace: str) -> None:
    def ask(name: str) -> list[str]:
        return [f"{name}: {line}" for line in refusals(made[name].objects, namespace)]

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        assert [line for lines in threads.map(ask, made) for line in lines] == []


@pytest.mark.usefixtures("accounts")
def test_a_restricted_namespace_admits_every_pod(made: dict[str, Rendered], namespace: str) -> None:
    def ask(name: str) -> list[str]:
        return [f"{name}: {line}" for line in refusals(pods(made[name]), namespace)]

    assert {len(pods(each)) for each in made.values()} == {2, 3}
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        assert [line for lines in threads.map(ask, made) for line in lines] == []


POD = "spec/containers/0"


@pytest.mark.usefixtures("accounts")
@pytest.mark.parametrize(
    ("path", "new", "said"),
    [
        ("spec/securityContext/runAsNonRoot", False, "runAsNonRoot"),
        ("spec/securityContext/seccompProfile", None, "seccompProfile"),
        (f"{POD}/securityContext/capabilities", None, "unrestricted capabilities"),
        (f"{POD}/securityContext/allowPrivilegeEscalation", True, "allowPrivilegeEscalation"),
        (f"{POD}/livenessProb", {}, "livenessProb"),
        (f"{POD}/livenessProbe/httpGet/port", "no_port", "livenessProbe.httpGet.port"),
        (f"{POD}/volumeMounts/0/name", "nowhere", "volumeMounts[0].name: Not found"),
        (f"{POD}/resources/requests/memory", "1Gi", "must be less than or equal to memory limit"),
    ],
)
def test_a_wrong_pod_is_refused(
    made: dict[str, Rendered], namespace: str, path: str, new: object, said: str
) -> None:
    pod = json.loads(json.dumps(pods(made["defaults"])[0]))
    assert refusals([pod], namespace) == []
    change(pod, path, new)
    assert said in "\n".join(refusals([pod], namespace))


@pytest.mark.parametrize(
    ("kind", "path", "new"),
    [
        ("HTTPRoute", "spec/rules/0/matches/0/path/value", "no slash"),
        ("HorizontalPodAutoscaler", "spec/maxReplicas", 1),
        ("PodDisruptionBudget", "spec/minAvailable", 1),
        ("PrometheusRule", "spec/groups/0/rules/0/for", "two minutes"),
        ("Service", "spec/type", "LoadBalance"),
        ("ServiceMonitor", "spec/endpoints/0/interval", "often"),
    ],
)
def test_a_wrong_value_that_no_schema_knows_is_refused(
    made: dict[str, Rendered], namespace: str, kind: str, path: str, new: object
) -> None:
    (found, *_) = made["everything"].of(kind)
    wrong = json.loads(json.dumps(found))
    change(wrong, path, new)
    assert "is invalid" in "\n".join(refusals([wrong], namespace))
