"""New settings and new passwords reach the pods; nothing new leaves them alone."""

import secrets

import pytest

from app import about
from kit.tests.e2e.cluster import Namespace, is_ready, names, restarts
from kit.tests.e2e.pods import Asker
from kit.tests.e2e.release import QUICK, Postgres, Release
from kit.tests.e2e.report import Report

pytestmark = pytest.mark.timeout(300)

ENVIRONMENT = "import os, sys; sys.stdout.write(os.environ[sys.argv[1]])"


@pytest.fixture(scope="module")
def installed(release: Release) -> Release:
    """The service as it is by default."""
    release.put(**QUICK)
    return release


def environment(release: Release, variable: str) -> set[str]:
    """Return what a variable is in the pods."""
    return {
        release.space.kubectl("exec", pod, "--", "python", "-c", ENVIRONMENT, variable)
        for pod in names(release.pods())
    }


def check(
    report: Report, what: str, before: set[str], release: Release, asker: Asker, *, ok: bool
) -> None:
    """Add the row of a change that must have replaced every pod without a failed request."""
    now, served = release.pods(), asker.counts()
    replaced = len(before - names(now))
    report.row(
        f"{what} rolls the pods",
        goal="every pod is a new one that has it, and no request fails",
        measured=replaced,
        unit="pods replaced",
        ok=(
            ok
            and replaced == len(before) == len(now)
            and all(is_ready(pod) for pod in now)
            and restarts(now) == 0
            and served["failed"] == 0
        ),
        **served,
    )


def test_an_upgrade_with_nothing_new_replaces_no_pod(
    installed: Release, asker: Asker, report: Report
) -> None:
    before = names(installed.pods())
    installed.put()
    report.row(
        "an upgrade with nothing new",
        goal="replaces no pod",
        measured=len(before - names(installed.pods())),
        unit="pods replaced",
        ok=names(installed.pods()) == before and len(before) == 2,
    )


def test_a_change_of_settings_rolls_the_pods(
    installed: Release, asker: Asker, report: Report
) -> None:
    before = names(installed.pods())
    installed.put(config={"LOG_LEVEL": "WARNING"})
    ok = environment(installed, "LOG_LEVEL") == {"WARNING"}
    check(report, "a change of settings", before, installed, asker, ok=ok)


def test_a_change_of_the_secret_rolls_the_pods(
    installed: Release, space: Namespace, postgres: Postgres, asker: Asker, report: Report
) -> None:
    before = names(installed.pods())
    password = secrets.token_hex(16)
    # As people rotate passwords: both users may work until the last old pod is gone.
    postgres.ask(f"CREATE ROLE rotated LOGIN PASSWORD '{password}' IN ROLE service")
    url = f"postgresql://rotated:{password}@postgres:5432/service"
    space.secret(f"{about.SLUG}-database", url=url)
    installed.put()
    users = postgres.ask(
        "SELECT string_agg(DISTINCT usename, ',') FROM pg_stat_activity"
        f" WHERE client_addr IN ({', '.join(addresses(installed))})"
    )
    ok = environment(installed, "DATABASE_URL") == {url} and users in {"rotated", ""}
    check(report, "a change of the Secret", before, installed, asker, ok=ok)


def addresses(release: Release) -> list[str]:
    """Return the addresses of the pods, as SQL."""
    return [f"'{pod['status']['podIP']}'" for pod in release.pods()]
