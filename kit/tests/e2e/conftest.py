"""The image in the cluster, a namespace with a database for each file of tests, and the report."""

import os
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial

import pytest

from app import about
from kit.tests.e2e import revisions
from kit.tests.e2e.cluster import Cluster, CommandFailed, Namespace
from kit.tests.e2e.connections import Ledger, Sampler
from kit.tests.e2e.pods import Asker
from kit.tests.e2e.release import Postgres, Release, install_postgres
from kit.tests.e2e.report import Report
from kit.tests.support.report_hooks import (
    key,
    pytest_runtest_makereport,
    pytest_terminal_summary,
    report,
    stories,
)
from slipway_kit.dev import cluster as loading
from slipway_kit.dev import image as images

# Two pods of the default 500m, a third during a rollout, and the clients, want more than this.
CORES = 4
LITTLE_CPU = {"resources": {"requests": {"cpu": "100m"}}}

__all__ = ["pytest_runtest_makereport", "pytest_terminal_summary", "report"]


def pytest_configure(config: pytest.Config) -> None:
    """Begin the table anew."""
    config.stash[key] = Report(name="e2e")


def story(space: Namespace) -> str:
    """Return what lives in a namespace, as far as the cluster answers."""
    try:
        return space.story()
    except CommandFailed as error:
        return str(error)


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The cluster of kubectl's current context."""
    return Cluster()


@pytest.fixture(scope="session")
def image() -> str:
    """The name of the service's image in the cluster, loaded."""
    return loading.main(os.environ)


@pytest.fixture(scope="session")
def background() -> Iterator[Executor]:
    """Builds one image after another while pods start."""
    with ThreadPoolExecutor(1) as builder:
        yield builder


@pytest.fixture(scope="session")
def expanded(background: Executor, image: str) -> Future[str]:
    """The tag of an image with one more table, once it is built."""
    return background.submit(revisions.built, image, "expanded", revisions.GOOD)


@pytest.fixture(scope="module")
def space(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Namespace]:
    """A namespace for the tests of one file, named for it."""
    topic = request.path.stem.removeprefix("test_").replace("_", "-")
    with cluster.namespace(topic) as made:
        stories[made.name] = partial(story, made)
        yield made
        del stories[made.name]


@pytest.fixture(scope="session")
def ledgers() -> list[Ledger]:
    """The connections of every database of this run so far."""
    return []


@pytest.fixture(scope="module")
def ledger(space: Namespace, ledgers: list[Ledger]) -> Ledger:
    """The connections of this namespace's database."""
    ledgers.append(Ledger(space.name))
    return ledgers[-1]


@pytest.fixture(scope="module")
def postgres(space: Namespace, ledger: Ledger) -> Iterator[Postgres]:
    """The database of the namespace, which the release finds through a Secret."""
    found = install_postgres(space)
    space.secret(f"{about.SLUG}-database", url=found.url)
    sampler = Sampler(space, ledger)
    yield found
    sampler.stop()


@pytest.fixture(scope="module")
def release(
    space: Namespace, postgres: Postgres, image: str, cluster: Cluster, ledger: Ledger
) -> Release:
    """A release that is not installed yet; its pods ask for little CPU where there is little."""
    values = image_values(image) | (LITTLE_CPU if cluster.cores < CORES else {})
    return Release(space, image, values=values, ledger=ledger)


@pytest.fixture(scope="module")
def asker(space: Namespace, release: Release, image: str) -> Iterator[Asker]:
    """A client that asks all the time, without retries."""
    client = Asker(space, image, f"{release.url}/health")
    yield client
    client.stop()


def image_values(image: str) -> dict[str, dict[str, str]]:
    """Return what the chart must be told of the image: nothing when it knows the name itself."""
    if image == images.default_name(about.IMAGE, about.VERSION):
        return {}
    repository, _, tag = image.rpartition(":")
    return {"image": {"repository": repository, "tag": tag}}
