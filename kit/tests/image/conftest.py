"""The image's containers; the cases of tests/runtime start them in place of processes."""

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from kit.tests.image.container import MEMORY, USER, Container, find_engine, run_arguments
from kit.tests.runtime.harness import SCENARIOS, settings_of
from kit.tests.support import ports
from slipway_kit.dev.postgres import open_postgres

StartContainer = Callable[..., Container]


@pytest.fixture(scope="session")
def engine() -> str:
    return find_engine()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A server that a container on the machine's network reaches."""
    port = ports.free()
    with open_postgres(conf={"listen_addresses": "127.0.0.1", "port": str(port)}) as url:
        yield urlsplit(url)._replace(netloc=f"postgres@127.0.0.1:{port}", query="").geturl()


@pytest.fixture
def start(engine: str, tmp_path: Path, migrated_url: str) -> Iterator[StartContainer]:
    """Give a function that starts a container and, unless told otherwise, waits for its workers."""
    started: list[Container] = []

    def start_one(
        command: list[str] = SCENARIOS,
        *,
        ready: bool = True,
        user: str = USER,
        memory: tuple[str, ...] = (MEMORY,),
        **settings: object,
    ) -> Container:
        variables = settings_of(migrated_url, **settings)
        run = run_arguments(engine, variables, user=user, memory=memory)
        container = Container(engine, tmp_path / f"{len(started)}.log", command, variables, run)
        started.append(container)
        if ready:
            container.wait_ready(int(variables["WEB_CONCURRENCY"]))
        return container

    yield start_one
    for container in started:
        container.end()


@pytest.fixture
def service(start: StartContainer) -> Container:
    """A container of two workers with the routes of `scenarios`."""
    return start()
