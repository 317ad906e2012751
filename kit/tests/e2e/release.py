"""The service as a release of its chart, beside a PostgreSQL of the tests."""

import json
import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from app import about
from kit.tests.e2e.cluster import CommandFailed, Namespace, Object, run
from kit.tests.e2e.connections import Ledger
from kit.tests.support.paths import SERVICE
from slipway_kit.dev import programs, up
from slipway_kit.testing.values import merged

CHART = SERVICE / "chart"
# Of the tests' PostgreSQL, for more pods than its 100 have room for.
MAX_CONNECTIONS = 200
POSTGRES_IMAGE = os.environ.get("E2E_POSTGRES_IMAGE", "postgres:17")
HELM_SECONDS = 300.0
# A pause after each ready pod is left to the tests that measure with the defaults. Without it
# more pods are on their way out at once, and each holds its connections until it is gone.
QUICK: dict[str, Any] = {
    "strategy": {"minReadySeconds": 2},
    "database": {"maxConnections": MAX_CONNECTIONS},
}
# What NOTES prints: (2 replicas + 1 surge) x ... + 10 reserved = 47 of 100.
BUDGET = re.compile(
    r"^Database connections: .* (?P<reserved>\d+) reserved = (?P<sum>\d+) of", re.MULTILINE
)


@dataclass(frozen=True)
class Postgres:
    """The database of a namespace, and how to ask it."""

    space: Namespace
    url: str
    database: str = "service"

    def ask(self, statement: str) -> str:
        """Return what psql answers, bare."""
        return self.space.kubectl(
            *("exec", "postgres-0", "--", "psql", "--username", "service"),
            *("--dbname", self.database, "--no-psqlrc"),
            *("--tuples-only", "--no-align", "--command", statement),
        ).strip()


def install_postgres(space: Namespace) -> Postgres:
    """Install PostgreSQL and wait until it answers."""
    password = secrets.token_hex(16)
    space.secret("postgres", password=password)
    space.apply(up.postgres(POSTGRES_IMAGE))
    space.rolled_out("statefulset/postgres", seconds=180)
    return Postgres(space, f"postgresql://service:{password}@postgres:5432/service")


class Release:
    """A release of the service's chart in a namespace."""

    def __init__(
        self,
        space: Namespace,
        image: str,
        *,
        values: Mapping[str, Any],
        ledger: Ledger,
        helm: str = "helm",
    ) -> None:
        self.space, self.name, self.image = space, about.SLUG, image
        self.values, self.ledger = dict(values), ledger
        program = programs.find(helm)
        if program is None:
            raise CommandFailed(f"{helm} is missing: `make setup` installs it")
        self.program = program

    @property
    def url(self) -> str:
        """Where pods of the namespace find the service."""
        return f"http://{self.name}"

    def helm(self, *arguments: str, stdin: str = "", seconds: float = HELM_SECONDS) -> str:
        """Run helm in the release's namespace."""
        command = [self.program, "--namespace", self.space.name, *arguments]
        return run(command, stdin=stdin, seconds=seconds)

    def put(self, *, wait: bool = True, seconds: float = HELM_SECONDS, **values: Any) -> str:
        """Install or upgrade with `values` (nested, by their first names) over those so far."""
        given = merged(self.values, values)
        with self._budgeted():
            output = self.helm(
                *("upgrade", "--install", self.name, str(CHART), "--values", "-"),
                *(["--wait"] if wait else []),
                *("--timeout", f"{seconds:g}s"),
                stdin=json.dumps(given),
                seconds=seconds + 30,
            )
        if wait:
            self.settle(seconds=seconds)
        self.values = given
        return output

    def settle(self, *, seconds: float = HELM_SECONDS) -> None:
        """Wait until the last old pod was told to leave; helm waits for the new ones alone."""
        self.space.rolled_out(f"deployment/{self.name}", seconds=seconds)

    def rollback(self, revision: int = 0, *, seconds: float = HELM_SECONDS) -> None:
        """Go back to a revision, or to the one before."""
        which = [str(revision)] if revision else []
        with self._budgeted():
            self.helm(
                *("rollback", self.name, *which, "--wait", "--timeout", f"{seconds:g}s"),
                seconds=seconds + 30,
            )
        self.settle(seconds=seconds)

    @contextmanager
    def _budgeted(self) -> Iterator[None]:
        """Note the budget of the release that the block makes, from when the block began."""
        began = time.monotonic()
        yield
        self.ledger.budgets.append((began, self.budget()))

    def test(self) -> str:
        """Run the tests of the chart and return what helm says of them."""
        return self.helm("test", self.name, "--timeout", "150s")

    def revision(self) -> int:
        """Return the number of the release's newest revision."""
        (newest,) = json.loads(self.helm("history", self.name, "--max", "1", "--output", "json"))
        return int(newest["revision"])

    def budget(self) -> int:
        """Return the connections that NOTES prints for the pods and the migration."""
        notes = self.helm("get", "notes", self.name)
        found = BUDGET.search(notes)
        assert found, notes
        return int(found["sum"]) - int(found["reserved"])

    def pods(self, component: str = "server") -> list[Object]:
        """Return the pods of the release that do one kind of work, without those that leave."""
        found = self.space.find("pods", instance=self.name, component=component)
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def deployment(self) -> Object:
        """Return the Deployment."""
        return self.space.get("deployment", self.name)
