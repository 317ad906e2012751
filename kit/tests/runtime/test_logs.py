"""Who reads the log may stop to; the service goes on."""

import json
import os
from pathlib import Path

import pytest

from kit.tests.runtime.harness import SCENARIOS, Service, ask, connected, environment
from slipway_kit.testing.waiting import eventually

# The longest id that is kept, for long lines.
LONG = "x" * 128
# Lines for more than a pipe and the memory hold.
REQUESTS = 4500


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    """A pipe with a name."""
    path = tmp_path / "out"
    os.mkfifo(path)
    return path


def test_a_reader_that_stalls_costs_lines_and_no_answers(
    pipe: Path, tmp_path: Path, migrated_url: str
) -> None:
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    service = Service(pipe, SCENARIOS, environment(migrated_url, WEB_CONCURRENCY=1))
    # Nobody else may open the pipe to read it.
    service.log = tmp_path / "log"
    read = b""
    try:
        eventually(service.answers, seconds=30)
        with connected(service.port) as connection:
            for _ in range(REQUESTS):
                assert ask(connection, "/health", {"X-Request-ID": LONG})[0] == 200
        lost = service.metrics()["log_lines_dropped_total"]
        assert lost > 0
        while b'"request_id": "last"' not in read:
            try:
                read += os.read(reader, 2**16)
            except BlockingIOError:
                service.get("/health")
                with connected(service.port) as connection:
                    ask(connection, "/health", {"X-Request-ID": "last"})
        lines = [json.loads(line) for line in read.splitlines()]
        written = [line for line in lines if line.get("request_id") == LONG]
        assert len(written) == REQUESTS - lost
    finally:
        service.log.write_bytes(read)
        service.end()
        os.close(reader)
