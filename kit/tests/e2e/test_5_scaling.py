"""The autoscaler takes over from a fixed number of pods, adds and removes some, unnoticed."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from kit.tests.e2e.cluster import Cluster, Namespace, names, wait_until
from kit.tests.e2e.connections import Ledger
from kit.tests.e2e.load_job import TRAFFIC, Load, under_load
from kit.tests.e2e.pods import Asker
from kit.tests.e2e.release import QUICK, Postgres, Release
from kit.tests.e2e.report import Report
from slipway_kit.dev import programs

pytestmark = pytest.mark.timeout(540)

FIXED, FEWEST, MOST = 3, 2, 4
# Requests per second: far below the autoscaler's target for two pods, and above it.
LITTLE = 12
# The CPU that is asked for is so little that one client is a lot; health costs less than a shop.
MUCH, MILLICORES = (80, 100) if TRAFFIC.startswith("shop") else (160, 50)
CPU = {"requests": {"cpu": f"{MILLICORES}m"}}
FEW = ("--connections", "12", "--sockets", "2", "--idle", "2")
AUTOSCALING = {"enabled": True, "minReplicas": FEWEST, "maxReplicas": MOST, "scaleDownSeconds": 20}
# Nothing is removed while the switch is looked at.
PATIENT = AUTOSCALING | {"scaleDownSeconds": 600}
LOOK_SECONDS = 10.0


@pytest.fixture(scope="module")
def installed(
    request: pytest.FixtureRequest,
    space: Namespace,
    postgres: Postgres,
    image: str,
    cluster: Cluster,
    ledger: Ledger,
    release: Release,
) -> Iterator[Release]:
    """The service with a fixed number of pods, by each version of Helm that is here."""
    program = request.param if programs.find(request.param) else "helm"
    made = Release(space, image, values=release.values, ledger=ledger, helm=program)
    made.put(replicas=FIXED, resources=CPU, **QUICK)
    yield made
    made.helm("uninstall", made.name, "--wait")


@contextmanager
def watched(release: Release) -> Iterator[list[int]]:
    """Collect every number of replicas that the Deployment is told inside, the first one too."""
    seen: list[int] = []
    command = [
        *(release.space.cluster.program, "--namespace", release.space.name, "get", "deployment"),
        *(release.name, "--watch", "--output", 'jsonpath={.spec.replicas}{"\\n"}'),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        time.sleep(1)
        try:
            yield seen
            time.sleep(1)
        finally:
            process.terminate()
            said, _ = process.communicate(timeout=10)
            seen += [int(line) for line in said.split()]


def version(release: Release) -> str:
    """Return the version of the Helm that made the release."""
    return release.helm("version", "--template", "{{.Version}}").strip()


def replicas(release: Release) -> int:
    """Return how many pods serve."""
    return int(release.deployment()["status"].get("availableReplicas", 0))


@pytest.mark.parametrize("installed", ["helm", "helm4"], indirect=True)
def test_the_switch_from_a_fixed_number_to_the_autoscaler_drops_no_pod(
    installed: Release, image: str, report: Report
) -> None:
    before = names(installed.pods())
    asker = Asker(installed.space, image, f"{installed.url}/health")
    with watched(installed) as told:
        installed.put(autoscaling=PATIENT)
        time.sleep(LOOK_SECONDS)
    served, after = asker.counts(), names(installed.pods())
    asker.stop()
    report.row(
        f"the switch from {FIXED} pods to the autoscaler with Helm {version(installed)}",
        goal="drops no pod and no request",
        measured=len(before - after),
        unit="pods dropped",
        ok=before <= after and min(told) >= FIXED == len(before) and served["failed"] == 0,
        replicas=told,
        **served,
    )


@pytest.mark.parametrize("installed", ["helm4"], indirect=True)
def test_the_autoscaler_adds_and_removes_pods_without_a_failed_request(
    installed: Release, cluster: Cluster, report: Report
) -> None:
    goal = f"up from {FEWEST}, kept by an upgrade, down to {FEWEST}; no failed request"
    if not cluster.has_metrics:
        report.lacks("autoscaling under load", goal=goal, reason="no metrics-server answers")
    installed.put(autoscaling=AUTOSCALING)
    times: dict[str, float] = {}
    with watched(installed) as told, under_load(installed, *FEW, rate=LITTLE) as light:
        down(installed, times, "settled")
        with under_load(installed, rate=MUCH) as heavy:
            began = time.monotonic()
            wait_until("more pods", lambda: replicas(installed) > FEWEST, seconds=150)
            times["up"] = round(time.monotonic() - began, 1)
            wanted = installed.deployment()["spec"]["replicas"]
            installed.put()
            kept = installed.deployment()["spec"]["replicas"]
        down(installed, times, "down")
    failed = light.failed + heavy.failed
    report.row(
        f"autoscaling under load, with Helm {version(installed)}",
        goal=goal,
        measured=failed,
        unit="failed requests",
        ok=(
            failed == 0
            and not missing(light, heavy)
            and kept >= wanted > FEWEST
            and told[-1] == FEWEST
        ),
        replicas=changes(told),
        seconds=times,
        upgrade_kept=f"{kept} of {wanted}",
        little_load=counts(light),
        much_load=counts(heavy),
    )


@pytest.mark.parametrize("installed", ["helm", "helm4"], indirect=True)
def test_no_upgrade_and_no_rollback_undoes_what_the_autoscaler_decided(
    installed: Release, cluster: Cluster, report: Report
) -> None:
    goal = f"a release that begins with the autoscaler stays at its {MOST} pods"
    if not cluster.has_metrics:
        report.lacks("a rollback while scaled", goal=goal, reason="no metrics-server answers")
    installed.helm("uninstall", installed.name, "--wait")
    # Even an idle pod takes a hundredth of its CPU.
    installed.put(autoscaling=AUTOSCALING | {"cpuPercent": 1})
    wait_until("the most pods", lambda: replicas(installed) == MOST, seconds=200)
    with watched(installed) as told:
        installed.put(config={"LOG_LEVEL": "WARNING"})
        installed.rollback()
    report.row(
        f"a rollback while scaled, with Helm {version(installed)}",
        goal=goal,
        measured=min(told),
        unit="pods",
        ok=set(told) == {MOST},
        replicas=changes(told),
    )


def down(release: Release, times: dict[str, float], what: str) -> None:
    """Wait until only the fewest pods are left."""
    began = time.monotonic()
    wait_until("fewer pods", lambda: len(release.pods()) == FEWEST, seconds=200)
    times[what] = round(time.monotonic() - began, 1)


def missing(*loads: Load) -> list[Any]:
    """Return the writes that were acknowledged and are not there."""
    return [each for load in loads for each in load.missing]


def changes(told: list[int]) -> list[int]:
    """Return the numbers without repetitions."""
    return [each for each, before in zip(told, [None, *told], strict=False) if each != before]


def counts(load: Load) -> dict[str, Any]:
    """Return what a client did, without a line for each slow answer."""
    return {key: value for key, value in load.counts().items() if key != "each_over_1_s"}
