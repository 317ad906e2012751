"""From an empty namespace to a service that answers, with the defaults of the chart."""

import os
import time

import pytest

from kit.tests.e2e.cluster import Cluster, Namespace, is_ready, restarts
from kit.tests.e2e.conftest import image_values
from kit.tests.e2e.connections import Ledger
from kit.tests.e2e.release import Postgres, Release
from kit.tests.e2e.report import Report

pytestmark = pytest.mark.timeout(600)

# Makefiles set it: the time at which `make e2e` began, or cookiecutter before it.
BEGAN = float(os.environ.get("E2E_BEGAN") or time.time())
MINUTES = 10.0


def test_the_defaults_install_into_an_empty_namespace_and_pass_the_tests_of_the_chart(
    space: Namespace,
    postgres: Postgres,
    image: str,
    cluster: Cluster,
    ledger: Ledger,
    report: Report,
) -> None:
    release = Release(space, image, values=image_values(image), ledger=ledger)
    began = time.monotonic()
    release.put()
    installed = time.monotonic() - began
    release.test()
    passed = time.monotonic() - began - installed
    pods = release.pods()
    report.row(
        "helm install --wait with default values, migration included, then helm test",
        goal=f"all pods ready and the tests pass, within {MINUTES:g} min of the start of make e2e",
        measured=round(time.time() - BEGAN, 1),
        unit="s",
        ok=(
            len(pods) == release.deployment()["spec"]["replicas"] == 2
            and all(is_ready(pod) for pod in pods)
            and restarts(pods) == 0
            and time.time() - BEGAN < MINUTES * 60
        ),
        reason=str(cluster),
        install_seconds=round(installed, 1),
        test_seconds=round(passed, 1),
        values_given=release.values,
        pods=len(pods),
        restarts=restarts(pods),
    )
