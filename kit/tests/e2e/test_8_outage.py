"""PostgreSQL is gone for a while: clients are told so by the service, which waits for it."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from app import about
from kit.tests.e2e.cluster import Namespace, is_ready, names, restarts
from kit.tests.e2e.load_job import Load, under_load
from kit.tests.e2e.release import QUICK, Postgres, Release
from kit.tests.e2e.report import Report

pytestmark = pytest.mark.timeout(300)

GONE_SECONDS = 20.0
CALM_SECONDS = 6.0
WAIT_SECONDS = 120
WAITER = (Path(__file__).parent / "waiter.py").read_text(encoding="utf-8")
BACK_SECONDS = 2.0
# A service without a table asks for no database.
ANSWERS = {"busy: 503 problem", "sockets: error answer"}


@pytest.fixture(scope="module")
def installed(release: Release, space: Namespace, postgres: Postgres) -> Release:
    """The service, with its database behind a Service that has an address of its own."""
    space.apply(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "database"},
            "spec": {
                "ports": [{"port": 5432, "protocol": "TCP"}],
                "selector": {"app.kubernetes.io/name": "postgres"},
            },
        }
    )
    url = postgres.url.replace("@postgres:", "@database:")
    assert url != postgres.url
    space.secret(f"{about.SLUG}-database", url=url)
    release.put(**QUICK)
    return release


def test_clients_get_problems_while_the_database_is_gone_and_answers_soon_after(
    installed: Release, space: Namespace, report: Report
) -> None:
    before = names(installed.pods())
    with under_load(installed, rate=120) as load:
        time.sleep(CALM_SECONDS)
        gone = time.time()
        with reached_again(installed) as reached:
            scale(space, 0)
            unready = watch(installed, gone + GONE_SECONDS)
            scale(space, 1)
            space.rolled_out("statefulset/postgres")
        time.sleep(CALM_SECONDS)
    (back,) = reached
    pods = installed.pods()
    late = last_failure(load, "last_asked") - back
    report.row(
        f"PostgreSQL is gone for {GONE_SECONDS:g} s",
        goal=(
            "clients get 503 problems and no broken or refused connection, no pod leaves the"
            f" Service or restarts, all is well {BACK_SECONDS:g} s after PostgreSQL can be reached"
        ),
        measured=round(max(late, 0.0), 1),
        unit="s until no new request got a problem",
        ok=(
            late <= BACK_SECONDS
            and load.failures.keys() <= ANSWERS
            and load.result["busy"]["connections"]["silent"] == 0
            and not load.missing_writes
            and unready == 0
            and names(pods) == before
            and restarts(pods) == 0
        ),
        last_problem_after_s=round(last_failure(load, "last") - back, 1),
        gone_seconds=round(back - gone, 1),
        times_a_pod_was_unready=unready,
        restarts=restarts(pods),
        missing=len(load.missing_writes),
        **load.counts(),
    )


def scale(space: Namespace, replicas: int) -> None:
    """Have so many databases."""
    space.kubectl("scale", "statefulset/postgres", f"--replicas={replicas}")


def watch(release: Release, until: float) -> int:
    """Count the looks at which a pod got no traffic."""
    unready = 0
    while time.time() < until:
        unready += not all(is_ready(pod) for pod in release.pods())
        time.sleep(1)
    return unready


@contextmanager
def reached_again(release: Release) -> Iterator[list[float]]:
    """Note when a pod of the service can reach its database again, in seconds since 1970.

    It can some time after PostgreSQL is ready: the nodes have to hear of it.
    """
    space, pod = release.space, release.pods()[0]["metadata"]["name"]
    command = [
        *(space.cluster.program, "--namespace", space.name, "exec", pod, "--"),
        *("python", "-c", WAITER, "database", "5432", str(WAIT_SECONDS)),
    ]
    found: list[float] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield found
        said, _ = process.communicate(timeout=WAIT_SECONDS)
    waiting, again = said.split()
    assert waiting == "waiting", said
    found.append(float(again))


def last_failure(load: Load, which: str) -> float:
    """Return when the last one was asked or seen."""
    failures: list[dict[str, Any]] = list(load.failures.values())
    return max((float(failure[which]) for failure in failures), default=0.0)
