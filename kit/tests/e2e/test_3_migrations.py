"""A migration that fails changes nothing that runs; two at once do no harm."""

import json
import time
from concurrent.futures import Executor, Future
from typing import Any

import pytest
import yaml

from kit.tests.e2e import revisions
from kit.tests.e2e.cluster import CommandFailed, Namespace, Object, names, restarts
from kit.tests.e2e.pods import Asker
from kit.tests.e2e.release import QUICK, Postgres, Release
from kit.tests.e2e.report import Report

pytestmark = pytest.mark.timeout(420)

VERSION = "SELECT coalesce(string_agg(version_num, ','), '') FROM alembic_version"
# A revision that fails does so at each attempt, and the pauses between them add up.
ONCE = {"retries": 0}


@pytest.fixture(scope="module")
def broken(background: Executor, image: str) -> Future[str]:
    """The tag of an image whose migration fails, once it is built."""
    return background.submit(revisions.built, image, "broken", revisions.BROKEN)


@pytest.fixture(scope="module")
def installed(release: Release) -> Release:
    """The service with the schema of its own."""
    release.put(migrations=ONCE, **QUICK)
    return release


def version(postgres: Postgres) -> str:
    """Return the revision of the database, empty when it has none."""
    table = "SELECT coalesce(to_regclass('alembic_version')::text, '')"
    return postgres.ask(VERSION) if postgres.ask(table) else ""


def test_a_failing_migration_stops_the_rollout_and_the_repaired_one_goes_through(
    broken: Future[str],
    expanded: Future[str],
    installed: Release,
    space: Namespace,
    postgres: Postgres,
    asker: Asker,
    report: Report,
) -> None:
    before, schema = names(installed.pods()), version(postgres)
    images = {"broken": broken.result(), "repaired": expanded.result()}
    began = time.monotonic()
    with pytest.raises(CommandFailed, match="pre-upgrade hooks failed"):
        installed.put(image={"tag": images["broken"]})
    stopped = time.monotonic() - began
    left = [*space.find("jobs", component="migration"), *space.find("pods", component="migration")]
    said = space.kubectl("logs", "job/" + next(iter(names(left[:1]))))
    served = asker.counts()
    after = installed.pods()
    report.row(
        "a failing migration stops the rollout",
        goal="the old pods go on serving, all of them, and the schema is as it was",
        measured=served["failed"],
        unit="failed requests",
        ok=(
            served["failed"] == 0
            and names(after) == before
            and restarts(after) == 0
            and version(postgres) == schema
            and not postgres.ask("SELECT to_regclass('e2e_notes')")
            and "division by zero" in said
        ),
        helm_seconds=round(stopped, 1),
        left_behind=sorted(names(left)),
        **served,
    )

    installed.put(image={"tag": images["repaired"]})
    served = asker.counts()
    now = installed.pods()
    report.row(
        "the repaired migration goes through",
        goal="the new revision, new pods, and nothing of the migration left",
        measured=served["failed"],
        unit="failed requests",
        ok=(
            served["failed"] == 0
            and version(postgres) == revisions.REVISION
            and not names(now) & before
            and restarts(now) == 0
            and not space.find("jobs,networkpolicies,serviceaccounts", component="migration")
        ),
        **served,
    )


def job(release: Release, name: str, tag: str, secret: str) -> Object:
    """Return the migration of the release, to be created directly, for another database."""
    hooks = yaml.safe_load_all(release.helm("get", "hooks", release.name))
    (found,) = (
        each
        for each in hooks
        if each["kind"] == "Job" and each["metadata"]["name"].endswith("-migration")
    )
    pod: Any = found["spec"]["template"]["spec"]
    # That of the hook is gone with it, and the Job asks nothing of the cluster.
    pod["serviceAccountName"] = "default"
    (container,) = pod["containers"]
    container["image"] = f"{container['image'].rpartition(':')[0]}:{tag}"
    for variable in container["env"]:
        if variable["name"] == "DATABASE_URL":
            variable["valueFrom"]["secretKeyRef"]["name"] = secret
    found["metadata"] = {"name": name, "labels": found["metadata"]["labels"]}
    return dict(found)


def migrate(space: Namespace, *jobs: Object) -> list[str]:
    """Create Jobs at once, wait until all are done, and return what each wrote."""
    space.apply({"apiVersion": "v1", "kind": "List", "items": list(jobs)})
    created = [f"job/{each['metadata']['name']}" for each in jobs]
    space.kubectl("wait", "--for=condition=Complete", *created, "--timeout=90s", seconds=100)
    return [space.kubectl("logs", each) for each in created]


def applied(log: str) -> list[str]:
    """Return the revisions that a migration says it applied."""
    events = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    return [each["revision"] for each in events if each["event"] == "migration applied"]


@pytest.mark.parametrize("old", [False, True], ids=["empty", "old"])
def test_two_migrations_at_once_do_no_harm(
    old: bool, installed: Release, space: Namespace, postgres: Postgres, report: Report
) -> None:
    kind = "old" if old else "empty"
    own, newest = installed.values["image"]["tag"], "expanded"
    assert own.endswith(newest)
    postgres.ask(f"CREATE DATABASE {kind}")
    space.secret(f"{kind}-database", url=postgres.url.removesuffix("/service") + f"/{kind}")
    expected = [each for each in (revisions.head(), revisions.REVISION) if each]
    if old:
        migrate(space, job(installed, "first", own.removesuffix(f"-{newest}"), f"{kind}-database"))
        expected = [revisions.REVISION]
    logs = migrate(
        space, *(job(installed, f"{kind}-{number}", own, f"{kind}-database") for number in (1, 2))
    )
    done = [applied(log) for log in logs]
    together = [revision for each in done for revision in each]
    found = Postgres(space, postgres.url, kind).ask(VERSION)
    report.row(
        f"two migration Jobs at once on an {kind} database",
        goal="both succeed, and each revision is applied once",
        measured=len(together),
        unit="revisions applied",
        ok=together == expected and found == revisions.REVISION,
        by_each_job=done,
        revision=found,
    )
