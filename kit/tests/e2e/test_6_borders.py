"""Who reaches what, and that everything fits a namespace that enforces `restricted`."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from kit.tests.e2e.cluster import Cluster, CommandFailed, Namespace, wait_until
from kit.tests.e2e.pods import pod, start
from kit.tests.e2e.release import Postgres, Release
from kit.tests.e2e.report import Report

pytestmark = pytest.mark.timeout(300)

API, METRICS, DATABASE, LISTENER = "api", "metrics", "database", "listener"
LISTENER_PORT = 8080
DENY = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "listener"},
    "spec": {"podSelector": {"matchLabels": {"role": "listener"}}, "policyTypes": ["Ingress"]},
}


@pytest.fixture(scope="module")
def elsewhere(cluster: Cluster) -> Iterator[Namespace]:
    """A namespace of somebody else."""
    with cluster.namespace("stranger") as made:
        yield made


@pytest.fixture(scope="module")
def monitoring(cluster: Cluster) -> Iterator[Namespace]:
    """A namespace whose pods may scrape."""
    with cluster.namespace("monitoring") as made:
        yield made


@pytest.fixture(scope="module")
def installed(release: Release, monitoring: Namespace) -> Release:
    """The service, scraped from a namespace that is surely not there otherwise."""
    labels = {"kubernetes.io/metadata.name": monitoring.name}
    scrapers = [{"namespaceSelector": {"matchLabels": labels}}]
    release.put(networkPolicy={"scrapersFrom": scrapers})
    return release


@pytest.fixture(scope="module")
def targets(installed: Release, space: Namespace, image: str) -> dict[str, str]:
    """Addresses by what answers there; the listener has no policy yet."""
    start(space, "listener", image, "listener.py", str(LISTENER_PORT), role="listener")
    server, database = installed.pods()[0]["status"]["podIP"], "postgres-0"
    return {
        API: f"{server}:8000",
        METRICS: f"{server}:9000",
        DATABASE: f"{space.get('pod', database)['status']['podIP']}:5432",
        LISTENER: f"{space.get('pod', 'listener')['status']['podIP']}:{LISTENER_PORT}",
    }


def probe(
    space: Namespace, image: str, name: str, targets: dict[str, str], **labels: str
) -> dict[str, str]:
    """Return what connections from a new pod come to, by what they lead to."""
    space.apply(pod(name, image, "prober.py", *targets.values(), **labels))
    done = "--for=jsonpath={.status.phase}=Succeeded"
    space.kubectl("wait", done, f"pod/{name}", "--timeout=60s", seconds=70)
    found: dict[str, str] = json.loads(space.kubectl("logs", name))
    return {what: found[address] for what, address in targets.items()}


def inside(release: Release, targets: dict[str, str]) -> dict[str, str]:
    """Return what connections from a pod of the service come to."""
    name = release.pods()[0]["metadata"]["name"]
    script = pod("", "", "prober.py")["spec"]["containers"][0]["command"][-1]
    command = ["exec", name, "--", "python", "-c", script, *targets.values()]
    found: dict[str, str] = json.loads(release.space.kubectl(*command))
    return {what: found[address] for what, address in targets.items()}


def enforced(space: Namespace, elsewhere: Namespace, image: str, target: str) -> bool:
    """Tell whether the cluster keeps a policy; before it there was a way."""
    aim = {LISTENER: target}
    assert probe(elsewhere, image, "before", aim) == {LISTENER: "open"}
    space.apply(DENY)
    return probe(elsewhere, image, "after", aim) != {LISTENER: "open"}


def test_strangers_reach_neither_metrics_nor_database_and_the_allowed_do(
    installed: Release,
    targets: dict[str, str],
    space: Namespace,
    elsewhere: Namespace,
    monitoring: Namespace,
    image: str,
    report: Report,
) -> None:
    goal = "strangers reach neither metrics nor database, and the allowed do"
    first = inside(installed, {key: targets[key] for key in (DATABASE, LISTENER)})
    if not enforced(space, elsewhere, image, targets[LISTENER]):
        report.lacks("who reaches what", goal=goal, reason="the cluster enforces no NetworkPolicy")
    asked = {key: targets[key] for key in (API, METRICS, DATABASE)}
    probes = {
        "a pod of another namespace": (elsewhere, image, "stranger", asked),
        "a pod of the namespace": (space, image, "neighbour", asked),
        "a scraper": (monitoring, image, "scraper", asked),
    }
    with ThreadPoolExecutor() as together:
        answers = {who: together.submit(probe, *each) for who, each in probes.items()}
    found = {who: answer.result() for who, answer in answers.items()}
    found["a pod of the service"] = first
    closed = "silent"
    wanted = {
        "a pod of another namespace": {API: closed, METRICS: closed, DATABASE: closed},
        "a pod of the namespace": {API: "open", METRICS: closed, DATABASE: closed},
        "a scraper": {API: closed, METRICS: "open", DATABASE: closed},
        # The listener let everybody in then: what stopped this pod is its own policy.
        "a pod of the service": {DATABASE: "open", LISTENER: closed},
    }
    # Its tests ask the API and the metrics.
    installed.test()
    wrong = [
        f"{who} finds {what} {found[who][what]}"
        for who, each in wanted.items()
        for what, expected in each.items()
        if (found[who][what] == "open") != (expected == "open")
    ]
    report.row(
        "who reaches what",
        goal=goal,
        measured=len(wrong),
        unit="wrong of 11",
        ok=not wrong,
        reason="; ".join(wrong),
        found=found,
    )


def scheduled(space: Namespace) -> dict[str, int]:
    """Count the pods that were admitted, hooks that are long gone too, by what they are."""
    events = json.loads(space.kubectl("get", "events", "--output", "json"))["items"]
    pods = {each["involvedObject"]["name"] for each in events if each["reason"] == "Scheduled"}
    kinds = {"-migration-": "migration", "-test-": "helm test", "postgres-": "database"}
    found: dict[str, int] = {}
    for name in pods:
        kind = next((kind for part, kind in kinds.items() if part in name), None)
        kind = kind or ("server" if "-" in name else "client")
        found[kind] = found.get(kind, 0) + 1
    return found


def test_a_namespace_that_enforces_restricted_admits_every_pod(
    installed: Release, space: Namespace, image: str, postgres: Postgres, report: Report
) -> None:
    installed.test()
    found = wait_until("events", lambda: scheduled(space), seconds=10)
    events: Any = json.loads(space.kubectl("get", "events", "--output", "json"))["items"]
    refused = [each["message"] for each in events if each["reason"] == "FailedCreate"]
    loose = pod("loose", image, "asker.py")
    del loose["spec"]["securityContext"]
    with pytest.raises(CommandFailed, match="violates PodSecurity"):
        space.apply(loose)
    report.row(
        "pods admitted by a namespace that enforces `restricted`",
        goal="all of them: service, migration, helm test",
        measured=sum(found.values()),
        unit="pods",
        ok=not refused and {"server", "migration", "helm test", "database"} <= set(found),
        refused=refused,
        found=found,
    )
