"""Requests made from the document, and hostile ones: each answer is one that the document names."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from math import ceil
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from kit.tests.runtime import hostile
from kit.tests.runtime.harness import GUNICORN, Service, connected, environment
from kit.tests.support.paths import MIGRATIONS
from slipway_kit.db import migrations
from slipway_kit.db.settings import DatabaseSettings

# Every one counts in CI; a laptop looks at fewer.
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES") or (2000 if os.environ.get("CI") == "true" else 400))
NOT_PROMISED = (
    # A rule of a type, like a printable name, need not be one of its schema.
    "positive_data_acceptance",
    # A query or a form holds text: there a number is no violation.
    "negative_data_rejection",
    # /games/export is also a /games/{game_id}, which answers for the methods that the former lacks.
    "unsupported_method",
)


@pytest.fixture(scope="module")
def fuzzed(
    create_database: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """The service with the routes of `fuzzed`, on a database of its own."""
    url = create_database("fuzzed")
    migrations.upgrade(DatabaseSettings(url=SecretStr(url)), MIGRATIONS)
    settings = environment(
        url,
        DATABASE_STATEMENT_TIMEOUT_MS=None,
        DATABASE_POOL_TIMEOUT_SECONDS=None,
        DOCS_ENABLED="true",
        REQUEST_TIMEOUT_SECONDS=None,
        SHUTDOWN_SECONDS=None,
        WEB_CONCURRENCY=1,
    )
    command = [*GUNICORN, "kit.tests.runtime.fuzzed:create_app()"]
    service = Service(tmp_path_factory.mktemp("fuzzed") / "log", command, settings)
    try:
        service.wait_ready(1)
        yield service
    finally:
        service.end()


@pytest.fixture(scope="module")
def document(fuzzed: Service) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(fuzzed.get("/openapi.json")[2])
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


@pytest.mark.timeout(300)
def test_requests_made_from_the_document_get_answers_that_it_names(
    fuzzed: Service, document: dict[str, Any], tmp_path: Path
) -> None:
    # Those without an input have few requests to make.
    rich = [o for *_, o in operations(document) if o.get("parameters") or "requestBody" in o]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run"),
            f"http://127.0.0.1:{fuzzed.port}/openapi.json",
            *("--checks", "all", "--exclude-checks", ",".join(NOT_PROMISED)),
            *("--max-examples", str(ceil(EXAMPLES / len(rich)))),
            *("--seed", "1", "--generation-database", "none", "--no-color"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    (made,) = re.findall(r"^  (\d+) generated", done.stdout, re.MULTILINE)
    assert int(made) >= EXAMPLES
    answered = fuzzed.events("request")
    assert len(answered) >= EXAMPLES
    assert [line for line in answered if line["status"] >= 500] == []


def test_hostile_requests_get_answers_that_the_document_names(
    fuzzed: Service, document: dict[str, Any]
) -> None:
    workers = fuzzed.workers()
    sent = 0
    for sent, request in enumerate(hostile.requests(document), start=1):  # noqa: B007 (a count)
        with connected(fuzzed.port) as connection:
            status, content_type, body = request.send(connection)
        assert hostile.wrong(document, request, status, content_type, body) is None, (
            f"{request} got {status} {content_type} {body[:500]!r}"
        )
    assert sent > 200
    assert fuzzed.workers() == workers
    assert fuzzed.events("unhandled error") == []
