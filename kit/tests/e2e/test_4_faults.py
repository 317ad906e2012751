"""Something of the service dies or hangs under load: what clients see of it, counted."""

import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kit.tests.e2e.cluster import CommandFailed, Namespace, Object, names, restarts
from kit.tests.e2e.faulty import HANG, HOG
from kit.tests.e2e.load_job import CONNECTIONS, SOCKETS, Load, under_load
from kit.tests.e2e.release import QUICK, Release
from kit.tests.e2e.report import Report

pytestmark = pytest.mark.timeout(300)

# When something struck, and what tells later whether its victim fell.
Struck = tuple[float, Callable[[], bool]]
HERE = Path(__file__).parent
RATE = 120.0
# A load that breaks down must not pass for a good one.
LEAST_RATE = 100
BLOWS = (HERE / "blows.py").read_text(encoding="utf-8")
LIVES = "import os, sys; print(os.path.exists('/proc/' + sys.argv[1]))"
CALM_SECONDS = 5.0
# gunicorn looks once a second, first asks a worker to say where it stands, then kills it; what
# waits for its connections gives up within two seconds more.
LOOKS_SECONDS = 5.0
# Until every node has heard that a pod is gone.
ROUTES_SECONDS = 5.0
WORKER_TIMEOUT_SECONDS = 10.0
CLIENTS = CONNECTIONS + SOCKETS
# Half of the connections that are opened meanwhile go to the pod that is not there any more.
SOME = "requests fail until the other pod gets all of them"
MOST = CLIENTS + int(RATE * ROUTES_SECONDS / 2)


@pytest.fixture(scope="module")
def installed(release: Release, space: Namespace) -> Release:
    """The service, with handlers of signals that break a worker."""
    module = (HERE / "faulty.py").read_text(encoding="utf-8")
    data = {"sitecustomize.py": module}
    space.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "faulty"}, "data": data}
    )
    release.put(
        extraVolumes=[{"name": "faulty", "configMap": {"name": "faulty"}}],
        extraVolumeMounts=[{"name": "faulty", "mountPath": "/faulty"}],
        extraEnv=[{"name": "PYTHONPATH", "value": "/faulty"}],
        **QUICK,
    )
    return release


@dataclass(frozen=True)
class Blow:
    """Something that was done to the service, when, and whether it had its effect."""

    began: float
    ended: float
    fell: bool
    shown: dict[str, Any]


@dataclass(frozen=True)
class Fault:
    """What is done, how long its consequences may show, and how many requests it may cost.

    `strike` returns when it struck, in seconds since 1970, and what tells later whether the
    victim fell.
    """

    strike: Callable[[Release], Struck]
    goal: str
    most_failed: int
    lasts_seconds: float
    watched_seconds: float


def signalled(number: int) -> Callable[[Release], Struck]:
    """Return what sends a signal to a worker."""

    def strike(release: Release) -> Struck:
        pod = release.pods()[0]
        process, when = inside(release, pod, BLOWS, "worker", str(number)).split()

        def fell() -> bool:
            lives = inside(release, pod, LIVES, process).strip() == "True"
            return not lives or restarted(release, pod)

        return float(when), fell

    return strike


def first_process_killed(release: Release) -> Struck:
    """Have the kernel kill process 1 of a container."""
    pod, began = release.pods()[0], time.time()
    # It takes the command that asks for it along.
    with suppress(CommandFailed):
        inside(release, pod, BLOWS, "first", "1")
    return began, lambda: restarted(release, pod)


def pod_deleted(release: Release) -> Struck:
    """Delete a pod without a grace period."""
    name, began = release.pods()[0]["metadata"]["name"], time.time()
    release.space.kubectl("delete", "pod", name, "--grace-period=0", "--force")
    return began, lambda: name not in names(release.pods())


def inside(release: Release, pod: Object, *arguments: str) -> str:
    """Run a script of Python in the container of a pod, and return what it wrote."""
    return release.space.kubectl("exec", pod["metadata"]["name"], "--", "python", "-c", *arguments)


def restarted(release: Release, pod: Object) -> bool:
    """Tell whether a pod's container has been started again since."""
    now = release.space.get("pod", pod["metadata"]["name"])
    return restarts([now]) > restarts([pod])


# A worker takes its connections with it: each loses what was asked on it, once.
ONCE_EACH = "no connection loses more than one request"
# Its time is over after this: the timeout, the master's look, and its second one.
HUNG_SECONDS = WORKER_TIMEOUT_SECONDS + LOOKS_SECONDS
FAULTS = {
    "a worker is killed": Fault(signalled(signal.SIGKILL), ONCE_EACH, CLIENTS, 1, 8),
    "a worker is stopped (SIGSTOP), which looks like a hung loop from outside": Fault(
        signalled(signal.SIGSTOP), ONCE_EACH, CLIENTS, HUNG_SECONDS, HUNG_SECONDS + 5
    ),
    "a worker's loop hangs (time.sleep on it)": Fault(
        signalled(HANG), ONCE_EACH, CLIENTS, HUNG_SECONDS, HUNG_SECONDS + 5
    ),
    "a worker is out of memory": Fault(signalled(HOG), SOME, MOST, ROUTES_SECONDS, 15),
    "process 1 of a container is killed": Fault(
        first_process_killed, SOME, MOST, ROUTES_SECONDS, 15
    ),
    "a pod is deleted without a grace period": Fault(pod_deleted, SOME, MOST, ROUTES_SECONDS, 12),
}


@pytest.fixture(scope="module")
def blows() -> dict[str, Blow]:
    """All of them by name, once `load` is over."""
    return {}


@pytest.fixture(scope="module")
def load(installed: Release, blows: dict[str, Blow]) -> Load:
    """What clients saw while one fault after another struck."""
    with under_load(installed, rate=RATE) as load:
        time.sleep(CALM_SECONDS)
        for name, fault in FAULTS.items():
            blows[name] = struck(installed, fault)
    return load


def struck(release: Release, fault: Fault) -> Blow:
    """Strike, give it time to pass, and wait until the pods are well again."""
    before = release.pods()
    began, fell = fault.strike(release)
    time.sleep(fault.watched_seconds)
    release.settle()
    after = release.pods()
    stayed = names(before) & names(after)
    counts = [
        restarts([pod for pod in pods if pod["metadata"]["name"] in stayed])
        for pods in (before, after)
    ]
    shown = {
        "containers_restarted": counts[1] - counts[0],
        "pods_replaced": len(names(before) - names(after)),
    }
    return Blow(began, time.time(), fell(), shown)


def outcome(blow: Blow) -> str:
    """Say in words what Kubernetes and the master did."""
    if blow.shown["pods_replaced"]:
        return "the pod was replaced"
    if blow.shown["containers_restarted"]:
        return "the container was restarted"
    return "the worker was replaced"


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_costs_no_more_than_what_was_under_way(
    name: str, load: Load, blows: dict[str, Blow], report: Report
) -> None:
    fault, blow = FAULTS[name], blows[name]
    seen = load.within(blow.began, blow.ended)
    report.row(
        name,
        goal=f"{fault.goal}, for {fault.lasts_seconds:g} s at most; no acknowledged write is lost",
        measured=seen.failed,
        unit=f"of {seen.requests} requests failed, for {seen.lasted:.1f} s",
        ok=(
            blow.fell
            and seen.failed <= fault.most_failed
            and seen.lasted <= fault.lasts_seconds
            and seen.requests > LEAST_RATE * (blow.ended - blow.began)
            and not load.missing_writes
        ),
        reason=outcome(blow),
        failures=seen.kinds,
        **blow.shown,
    )


def test_what_the_faults_left_of_the_writes(load: Load, report: Report) -> None:
    report.row(
        "acknowledged writes after all of these faults",
        goal="all are read back; imports are taken at most once, and may be lost with a worker",
        measured=len(load.missing_writes),
        unit="missing",
        ok=not load.missing_writes and load.failed > 0,
        **load.counts(),
    )
