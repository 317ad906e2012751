"""The client as a Job beside the service, with the service's image."""

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kit.tests.e2e.cluster import CommandFailed, Namespace, Object, wait_until
from kit.tests.e2e.pods import strict
from kit.tests.e2e.release import Release
from kit.tests.support.paths import SERVICE
from slipway_kit.capacity.sums import ShutdownPlan
from slipway_kit.config.server import ServerSettings

HERE = Path(__file__).parent
# In the pod, modules find each other by the names that they have here.
FOLDER = "/load/kit/tests/e2e"
MODULES = sorted(
    path.relative_to(HERE) for part in ("load", "shop") for path in HERE.glob(f"{part}/*.py")
)
HAS_SHOP = (SERVICE / "app/features/shop").exists()
TRAFFIC = "shop.traffic:Shop" if HAS_SHOP else "load.traffic:Health"
START_SECONDS = 60.0
END_SECONDS = 90.0
CONNECTIONS, SOCKETS, IDLE = 40, 8, 120
# By default, of the chart as of the service.
_SHUTDOWN_SECONDS = float(ServerSettings.model_fields["shutdown_seconds"].default)
DRAIN = ShutdownPlan.within(_SHUTDOWN_SECONDS).drain
# A node that is drained keeps neither.
WITH_DATABASE = {
    "podAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [
            {
                "topologyKey": "kubernetes.io/hostname",
                "labelSelector": {"matchLabels": {"app.kubernetes.io/name": "postgres"}},
            }
        ]
    }
}
GROUPS = ("busy", "idle", "sockets")


@dataclass(frozen=True)
class Moment:
    """What clients saw for a while: how much they asked, and when what failed."""

    requests: int
    times: dict[str, list[float]]
    began: float

    @property
    def failed(self) -> int:
        """How many requests failed."""
        return sum(len(found) for found in self.times.values())

    @property
    def lasted(self) -> float:
        """For how many seconds some did."""
        return (
            max((when for found in self.times.values() for when in found), default=self.began)
            - self.began
        )

    @property
    def kinds(self) -> dict[str, int]:
        """How many failed of each kind."""
        return {kind: len(found) for kind, found in self.times.items()}


@dataclass
class Load:
    """What a client did; filled in when its load is over."""

    result: dict[str, Any] = field(default_factory=dict)

    @property
    def requests(self) -> int:
        """All that was asked."""
        counts: list[int] = [self.result[group]["requests"] for group in GROUPS]
        return sum(counts)

    @property
    def failures(self) -> dict[str, Any]:
        """What failed on connections that are used all the time, by kind."""
        found: dict[str, Any] = {}
        for group in ("busy", "sockets"):
            found |= {f"{group}: {k}": v for k, v in self.result[group]["failures"].items()}
        return found

    @property
    def failed(self) -> int:
        """How many did, and connections that were closed without a word."""
        silent: int = self.result["busy"]["connections"]["silent"]
        counts: list[int] = [failure["count"] for failure in self.failures.values()]
        return silent + sum(counts)

    def within(self, began: float, ended: float) -> "Moment":
        """Return what clients saw between two times, in seconds since 1970."""
        requests = sum(
            count
            for group in ("busy", "sockets")
            for second, count in self.result[group]["by_second"].items()
            if began <= int(second) < ended
        )
        times = {
            kind: [when for when in failure["times"] if began <= when < ended]
            for kind, failure in self.failures.items()
        }
        return Moment(requests, {kind: found for kind, found in times.items() if found}, began)

    @property
    def missing_writes(self) -> list[Any]:
        """Writes that were acknowledged and are not there."""
        return list(self.result["writes"].get("missing", []))

    @property
    def missing(self) -> list[Any]:
        """The same, and imports, which a service that is not told to leave may lose."""
        imports = self.result["writes"].get("imports", {})
        return [*self.missing_writes, *imports.get("missing", [])]

    @property
    def slow(self) -> list[str]:
        """Every answer that took longer than a second, as one line each."""
        found = [one for group in GROUPS for one in self.result[group]["slowest"]]
        return [
            f"{one['seconds']:.2f} s {one['what']} at {one['at']:.1f}"
            for one in sorted(found, key=lambda one: float(one["at"]))
        ]

    def counts(self) -> dict[str, Any]:
        """Return what a row of the report tells."""
        busy, idle, sockets = (self.result[group] for group in GROUPS)
        return {
            "requests": self.requests,
            "by_kind": {**busy["by_kind"], **sockets["by_kind"]},
            "requests_a_second": round(self.requests / self.result["seconds"], 1),
            "failures": {kind: failure["count"] for kind, failure in self.failures.items()},
            "latest_of_each": {kind: failure["latest"] for kind, failure in self.failures.items()},
            "latency_ms": busy["latency_ms"],
            "over_1_s": len(self.slow),
            "each_over_1_s": self.slow,
            "client_late_ms": self.result["lateness_ms"]["max"],
            "connections": busy["connections"],
            "sockets_ended_by_drain": sockets["ended_by_drain"],
            "writes": self.result["writes"],
            "idle_requests": idle["requests"],
            "idle_failures": {k: v["count"] for k, v in idle["failures"].items()},
        }


@contextmanager
def under_load(release: Release, *options: str, rate: float = 130) -> Iterator[Load]:
    """Ask the release `rate` times a second inside; afterwards `result` is filled in."""
    space, name, load = release.space, f"load-{secrets.token_hex(3)}", Load()
    modules = {key(path): (HERE / path).read_text(encoding="utf-8") for path in MODULES}
    space.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": modules},
        _job(name, release, [*numbers(rate), *options]),
    )
    _started(space, name)
    yield load
    load.result = _end(space, name)


def numbers(rate: float) -> list[str]:
    """Return the options of a load; with few requests there are fewer connections to send them."""
    connections = max(1, min(CONNECTIONS, int(rate * DRAIN / 4)))
    return [
        *(f"--rate={rate:g}", f"--connections={connections}", f"--drain-seconds={DRAIN:g}"),
        *(f"--sockets={SOCKETS}", f"--idle={IDLE}"),
    ]


def _job(name: str, release: Release, options: list[str]) -> Object:
    items = [{"key": key(path), "path": str(path)} for path in MODULES]
    command = [*("python", "-m", "kit.tests.e2e.load.client", release.url), *options]
    container = {
        "name": "load",
        "image": release.image,
        "workingDir": "/load",
        "command": [*command, "--traffic", f"kit.tests.e2e.{TRAFFIC}"],
        "resources": {
            "requests": {"cpu": "200m", "memory": "64Mi"},
            "limits": {"memory": "256Mi"},
        },
        "volumeMounts": [{"name": "load", "mountPath": FOLDER}],
    }
    volumes = [{"name": "load", "configMap": {"name": name, "items": items}}]
    pod = strict(container, affinity=WITH_DATABASE, volumes=volumes)
    template = {"metadata": {"labels": {"app.kubernetes.io/component": "load"}}, "spec": pod}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"backoffLimit": 0, "activeDeadlineSeconds": 1200, "template": template},
    }


def key(path: Path) -> str:
    """Return the name of a file in a ConfigMap, which knows no folders."""
    return str(path).replace("/", ".")


def _log(space: Namespace, name: str) -> list[dict[str, Any]]:
    try:
        log = space.kubectl("logs", f"job/{name}")
    except CommandFailed:
        return []
    return [json.loads(line) for line in log.splitlines() if line.startswith("{")]


def _started(space: Namespace, name: str) -> None:
    wait_until("the load begins", lambda: _log(space, name) or None, seconds=START_SECONDS)


def _end(space: Namespace, name: str) -> dict[str, Any]:
    stop = "import os, signal; os.kill(1, signal.SIGTERM)"
    try:
        space.kubectl("exec", f"job/{name}", "--", "python", "-c", stop)
    except CommandFailed as error:
        raise CommandFailed(f"{error}\n{space.kubectl('logs', f'job/{name}')}") from None

    def result() -> dict[str, Any] | None:
        told = _log(space, name)
        return told[-1] if told and told[-1]["event"] == "result" else None

    return wait_until("the load ends and reads back", result, seconds=END_SECONDS)
