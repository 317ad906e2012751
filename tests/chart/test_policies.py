"""kube-score and checkov find nothing in the chart but what is left so for a reason."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chart import policies, releases
from tests.chart.charts import container, render
from tests.chart.policies import Finding

TOOLS: dict[str, Callable[[Path], list[Finding]]] = {
    "checkov": policies.checkov,
    "kube-score": lambda folder: policies.kube_score(sorted(folder.iterdir())),
}
# One that is wrong on purpose lies among the files, so that silence means something.
BROKEN = "broken"
FOUND = {
    "checkov": {"CKV_K8S_16", "CKV_K8S_20", "CKV_K8S_22", "CKV_K8S_8", "CKV_K8S_13", "CKV_K8S_14"},
    "kube-score": {
        *("container-image-tag", "container-resources", "container-security-context-privileged"),
        *("container-security-context-readonlyrootfilesystem", "pod-networkpolicy", "pod-probes"),
    },
}


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every release in a file of its own, and one that is broken."""
    folder = tmp_path_factory.mktemp("manifests")
    releases.write(folder)
    deployment = render().find("Deployment")
    service = container(deployment)
    service["image"] = "service:latest"
    service["securityContext"] = {"privileged": True, "allowPrivilegeEscalation": True}
    del service["resources"]["limits"]
    del service["livenessProbe"]
    del service["readinessProbe"]
    releases.save([deployment, render().find("Service")], folder / f"{BROKEN}.yaml")
    return folder


@pytest.fixture(scope="module", params=TOOLS)
def tool(request: pytest.FixtureRequest) -> str:
    """Each tool in turn."""
    return str(request.param)


@pytest.fixture(scope="module")
def findings(tool: str, manifests: Path) -> list[Finding]:
    """What the tool finds in all of them."""
    return TOOLS[tool](manifests)


def test_nothing_is_found_but_what_is_left_so(tool: str, findings: list[Finding]) -> None:
    left = policies.exemptions(tool)
    others = [
        str(each)
        for each in findings
        if each.release != BROKEN and not any(exemption.covers(each) for exemption in left)
    ]
    assert others == []


def test_what_is_left_so_is_still_found_and_has_a_reason(
    tool: str, findings: list[Finding]
) -> None:
    left = policies.exemptions(tool)
    assert [each for each in left if not any(map(each.covers, findings))] == []
    assert all(each.reason.strip().endswith(".") for each in left)
    assert {each.release for each in left} <= {None, *releases.EXAMPLES}


def test_what_is_wrong_on_purpose_is_found(tool: str, findings: list[Finding]) -> None:
    assert {each.check for each in findings if each.release == BROKEN} >= FOUND[tool]
