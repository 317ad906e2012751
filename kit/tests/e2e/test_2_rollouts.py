"""Pods come and go under a strict load, and nobody who asks notices."""

import json
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, repeat
from typing import Any

import pytest

from kit.tests.e2e import revisions
from kit.tests.e2e.cluster import Cluster, CommandFailed, is_ready, names, restarts
from kit.tests.e2e.load.tally import may_be_chance
from kit.tests.e2e.load_job import Load, under_load
from kit.tests.e2e.release import QUICK, Postgres, Release
from kit.tests.e2e.report import Report

pytestmark = pytest.mark.timeout(600)

# Four pods, and room for as many that leave while the next ones come.
MANY: dict[str, Any] = {
    **QUICK,
    "replicas": 4,
}
PODS = 20
REQUESTS = 20_000
# Clients ask for more than this; a load that breaks down must not pass for a good one.
LEAST_RATE = 100
RATE = 95.0
# Sockets and the connections with long pauses come on top, and so does the time around.
ENOUGH_SECONDS = REQUESTS / (RATE + 35)
# What a client does before the first pod leaves, and after the last one has left.
CALM_SECONDS = 4.0
DRAIN_SECONDS = 8.0
# A drain of the only node cannot end: by then it has taken the one pod that it may.
FLOOR_SECONDS = 10.0
MIGRATION_ROUND = 3
ZERO = "no request fails, and every acknowledged write is read back"
VERSION = "SELECT string_agg(version_num, ',') FROM alembic_version"


@dataclass
class Idle:
    """What connections with long pauses saw in all of these tests."""

    requests: int = 0
    failures: dict[str, int] = field(default_factory=dict)

    def add(self, load: Load) -> None:
        """Count those of one load."""
        seen = load.result["idle"]
        self.requests += seen["requests"]
        for kind, failure in seen["failures"].items():
            self.failures[kind] = self.failures.get(kind, 0) + failure["count"]


@pytest.fixture(scope="module")
def idle() -> Idle:
    """Counts from the first test of this file to the last."""
    return Idle()


@pytest.fixture(scope="module")
def installed(release: Release) -> Release:
    """The service with the chart's default values."""
    release.put()
    return release


@pytest.fixture(scope="module")
def many(installed: Release) -> Release:
    """The same with four pods."""
    installed.put(**MANY)
    return installed


def check(
    report: Report,
    what: str,
    release: Release,
    load: Load,
    idle: Idle,
    ok: bool = True,
    **shown: Any,
) -> None:
    """Add the row of something that nobody may have noticed."""
    idle.add(load)
    writes = load.result["writes"]
    pods = release.pods()
    report.row(
        what,
        goal=ZERO,
        measured=load.failed,
        unit=f"of {load.requests} requests failed",
        ok=(
            ok
            and load.failed == 0
            and not load.missing
            and writes.get("unknown", 0) == 0
            and writes.get("acknowledged", 1) > 0
            and load.requests >= LEAST_RATE * load.result["seconds"]
            and all(is_ready(pod) for pod in pods)
            and restarts(pods) == 0
        ),
        missing=len(load.missing),
        **shown,
        values=release.values,
        **load.counts(),
    )


def replaced(release: Release, change: Callable[[], object]) -> int:
    """Make a change, and return how many pods are gone after it."""
    before = names(release.pods())
    change()
    return len(before - names(release.pods()))


def wait_for_the_rest(began: float) -> None:
    """Return when the last pod is gone, and enough has been asked since `began`."""
    time.sleep(max(DRAIN_SECONDS, ENOUGH_SECONDS - (time.monotonic() - began)))


def test_an_upgrade_with_default_values_fails_no_request(
    installed: Release, idle: Idle, report: Report
) -> None:
    with under_load(installed, rate=RATE) as load:
        time.sleep(CALM_SECONDS)
        count = replaced(installed, lambda: installed.put(podAnnotations={"upgrade": "first"}))
        time.sleep(DRAIN_SECONDS)
    check(
        report,
        "an upgrade with the chart's defaults",
        installed,
        load,
        idle,
        ok=count == installed.deployment()["spec"]["replicas"],
        pods_replaced=count,
    )


@pytest.fixture(scope="module")
def before_migration(many: Release) -> list[int]:
    """The revision of the release to roll back to, once it is known."""
    return []


def test_upgrades_of_which_one_migrates_fail_no_request(
    expanded: Future[str],
    many: Release,
    before_migration: list[int],
    postgres: Postgres,
    idle: Idle,
    report: Report,
) -> None:
    expanded.result()
    count = rounds = 0
    with under_load(many, rate=RATE) as load:
        began = time.monotonic()
        time.sleep(CALM_SECONDS)
        while count < PODS:
            rounds += 1
            change: dict[str, Any] = {"podAnnotations": {"upgrade": str(rounds)}}
            if rounds == MIGRATION_ROUND:
                # The schema grows in the middle: old pods go on with the new one.
                before_migration.append(many.revision())
                change["image"] = {"tag": expanded.result()}
            count += replaced(many, partial(many.put, **change))
        wait_for_the_rest(began)
    check(
        report,
        f"{rounds} upgrades, one of which migrates the schema",
        many,
        load,
        idle,
        ok=postgres.ask(VERSION) == revisions.REVISION and load.requests >= REQUESTS,
        pods_replaced=count,
        revision=postgres.ask(VERSION),
    )


def test_rollbacks_leave_the_schema_and_fail_no_request(
    many: Release,
    before_migration: list[int],
    postgres: Postgres,
    image: str,
    idle: Idle,
    report: Report,
) -> None:
    # From there on helm's "the one before" goes to and fro over the migration.
    targets = chain(before_migration, repeat(0))
    count = rounds = 0
    with under_load(many, rate=RATE) as load:
        began = time.monotonic()
        time.sleep(CALM_SECONDS)
        while count < PODS or rounds % 2 == 0:
            rounds += 1
            count += replaced(many, partial(many.rollback, next(targets)))
        wait_for_the_rest(began)
    images = {pod["spec"]["containers"][0]["image"] for pod in many.pods()}
    check(
        report,
        f"{rounds} rollbacks over a migration that stays",
        many,
        load,
        idle,
        ok=(
            postgres.ask(VERSION) == revisions.REVISION
            and images == {image}
            and load.requests >= REQUESTS
        ),
        pods_replaced=count,
        revision=postgres.ask(VERSION),
    )


def test_scaling_down_evicting_and_draining_fail_no_request(
    many: Release, cluster: Cluster, idle: Idle, report: Report
) -> None:
    alone = len(cluster.nodes) == 1
    drained = "its pods alone, to the floor of the disruption budget" if alone else "all of it"
    steps: dict[str, Callable[[], object]] = {
        "4 replicas become 2": lambda: many.put(replicas=2),
        "a pod is evicted": lambda: evict(many),
        f"a node is drained: {drained}": lambda: drain(many, alone=alone),
    }
    done: dict[str, tuple[float, int]] = {}
    with under_load(many, rate=RATE) as load:
        time.sleep(CALM_SECONDS)
        for what, step in steps.items():
            began, gone = time.time(), replaced(many, step)
            time.sleep(DRAIN_SECONDS)
            done[what] = (began, gone)
        ended = time.time()
    check(
        report,
        "fewer replicas, an eviction and a drain",
        many,
        load,
        idle,
        ok=len(many.pods()) == 2,
    )
    ends = [*(began for began, _ in done.values()), ended][1:]
    for (what, (began, gone)), ended in zip(done.items(), ends, strict=True):
        seen = load.within(began, ended)
        report.row(
            what,
            goal=ZERO,
            measured=seen.failed,
            unit=f"of {seen.requests} requests failed",
            ok=seen.failed == 0 and gone >= 1 and seen.requests >= LEAST_RATE * (ended - began),
            failures=seen.kinds,
            last_failure_after_s=round(seen.lasted, 1),
            pods_gone=gone,
            nodes=len(cluster.nodes),
        )


def evict(release: Release) -> None:
    """Evict a pod, and wait until another one is in its place."""
    space, pod = release.space, release.pods()[0]["metadata"]["name"]
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod, "namespace": space.name},
    }
    path = f"/api/v1/namespaces/{space.name}/pods/{pod}/eviction"
    space.kubectl("create", "--raw", path, "--filename", "-", stdin=json.dumps(eviction))
    release.settle()


def drain(release: Release, *, alone: bool) -> None:
    """Drain a node, then let it take pods again.

    The only node of a cluster has no room elsewhere: the budget lets one pod go and no other.
    """
    cluster, node = release.space.cluster, drainable(release)
    ours = f"app.kubernetes.io/instance={release.name},app.kubernetes.io/component=server"
    which = ["--pod-selector", ours] if alone else ["--ignore-daemonsets"]
    try:
        with suppress(*[CommandFailed] if alone else []):
            cluster.kubectl(
                *("drain", node, "--delete-emptydir-data", *which),
                f"--timeout={FLOOR_SECONDS if alone else 120:g}s",
                seconds=150,
            )
    finally:
        cluster.kubectl("uncordon", node)
    release.settle()


def drainable(release: Release) -> str:
    """Return a node with a pod of the release, and without the database and clients if possible."""
    database = release.space.get("pod", "postgres-0")["spec"]["nodeName"]
    nodes: list[str] = [pod["spec"]["nodeName"] for pod in release.pods()]
    return next((node for node in nodes if node != database), database)


def test_connections_with_long_pauses_lose_one_request_in_ten_thousand_at_most(
    idle: Idle, report: Report
) -> None:
    failed = sum(idle.failures.values())
    report.row(
        "requests on connections that paused for longer than half of a drain, in all of this",
        goal="1 in 10,000 fails at most, chance aside",
        measured=failed,
        unit=f"of {idle.requests}",
        ok=may_be_chance(failed, idle.requests, share=1 / 10_000),
        failures=idle.failures,
    )
