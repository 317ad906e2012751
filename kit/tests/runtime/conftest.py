"""Services for these tests; each ends with its test, whatever happened."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kit.tests.runtime.harness import SCENARIOS, Service, environment

Start = Callable[..., Service]


@pytest.fixture
def start(tmp_path: Path, migrated_url: str) -> Iterator[Start]:
    """Give a function that starts a service and, unless told otherwise, waits for its workers."""
    started: list[Service] = []

    def start_one(
        command: list[str] = SCENARIOS, *, ready: bool = True, **settings: object
    ) -> Service:
        variables = environment(migrated_url, **settings)
        service = Service(tmp_path / f"{len(started)}.log", command, variables)
        started.append(service)
        if ready:
            service.wait_ready(int(variables.get("WEB_CONCURRENCY", "1")))
        return service

    yield start_one
    for service in started:
        service.end()


@pytest.fixture
def service(start: Start) -> Service:
    """A service of two workers with the routes of `scenarios`."""
    return start()
