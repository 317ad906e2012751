"""The cluster that KUBECONFIG names, and namespaces that live as long as a test needs them.

Every call has a deadline, and answers as objects or fails with what the program said.
"""

import json
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

from slipway_kit.dev import programs, up

Object = dict[str, Any]
Found = TypeVar("Found")

POLL_SECONDS = 0.5
# Beside the time that the command itself was given.
GRACE_SECONDS = 10.0
RESTRICTED = {
    f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")
}


class CommandFailed(Exception):
    """A program ended with another status than 0, or not in time; the text is what it said."""


def run(command: list[str], *, stdin: str = "", seconds: float) -> str:
    """Run a command and return what it wrote to its output."""
    try:
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        raise CommandFailed(f"{' '.join(command)}: not within {seconds:g} s") from None
    if done.returncode:
        said = (done.stderr + done.stdout).strip()
        raise CommandFailed(f"{' '.join(command)} ended with {done.returncode}: {said}")
    return done.stdout


def wait_until(what: str, ask: Callable[[], Found | None], *, seconds: float) -> Found:
    """Return the first answer that is not None or False, or fail with the name of the wait."""
    give_up = time.monotonic() + seconds
    while True:
        answer = ask()
        if answer is not None and answer is not False:
            return answer
        if time.monotonic() > give_up:
            raise AssertionError(f"{what}: not within {seconds:g} s")
        time.sleep(POLL_SECONDS)


class Cluster:
    """What kubectl's current context names."""

    def __init__(self) -> None:
        found = programs.find("kubectl")
        if found is None:
            raise CommandFailed("kubectl is missing: install it, and name a cluster to it")
        self.program = found

    def __str__(self) -> str:
        """Return what a reader of the measurements must know of it."""
        return f"Kubernetes {self.version}, {len(self.nodes)} node(s), {self.cores:g} cores"

    def kubectl(self, *arguments: str, stdin: str = "", seconds: float = 60) -> str:
        """Run kubectl."""
        command = [self.program, f"--request-timeout={seconds:g}s", *arguments]
        return run(command, stdin=stdin, seconds=seconds + GRACE_SECONDS)

    def get(self, *arguments: str) -> Object:
        """Return what `kubectl get` answers."""
        answer: Object = json.loads(self.kubectl("get", "--output", "json", *arguments))
        return answer

    @cached_property
    def version(self) -> str:
        """The version of Kubernetes, such as v1.36.3."""
        answer = json.loads(self.kubectl("version", "--output", "json"))
        return str(answer["serverVersion"]["gitVersion"])

    @cached_property
    def nodes(self) -> list[Object]:
        """The nodes that take pods."""
        return [
            node
            for node in self.get("nodes")["items"]
            if not node["spec"].get("unschedulable")
            and not any(
                taint["effect"] in {"NoSchedule", "NoExecute"}
                for taint in node["spec"].get("taints", [])
            )
        ]

    @cached_property
    def cores(self) -> float:
        """CPU of all nodes that take pods."""
        return sum(cores(node["status"]["allocatable"]["cpu"]) for node in self.nodes)

    @cached_property
    def has_metrics(self) -> bool:
        """Whether metrics-server answers, which an autoscaler needs."""
        try:
            self.kubectl("get", "--raw", "/apis/metrics.k8s.io/v1beta1/nodes")
        except CommandFailed:
            return False
        return True

    @contextmanager
    def namespace(self, topic: str) -> Iterator["Namespace"]:
        """Make a namespace that enforces `restricted`, and remove it with all that is in it."""
        space = Namespace(self, f"e2e-{topic}-{secrets.token_hex(3)}")
        self.kubectl("create", "namespace", space.name)
        try:
            labels = [f"{name}={value}" for name, value in RESTRICTED.items()]
            self.kubectl("label", "namespace", space.name, *labels)
            yield space
        finally:
            # Not waited for: nothing else uses the name.
            self.kubectl("delete", "namespace", space.name, "--wait=false")


@dataclass
class Namespace:
    """A namespace of the cluster."""

    cluster: Cluster
    name: str
    admitted: set[str] = field(default_factory=set)

    def kubectl(self, *arguments: str, stdin: str = "", seconds: float = 60) -> str:
        """Run kubectl in this namespace."""
        return self.cluster.kubectl(
            "--namespace", self.name, *arguments, stdin=stdin, seconds=seconds
        )

    def get(self, kind: str, name: str) -> Object:
        """Return one object."""
        answer: Object = json.loads(self.kubectl("get", kind, name, "--output", "json"))
        return answer

    def find(self, kind: str, **labels: str) -> list[Object]:
        """Return the objects whose labels app.kubernetes.io/NAME have these values."""
        wanted = ",".join(f"app.kubernetes.io/{name}={value}" for name, value in labels.items())
        answer = json.loads(self.kubectl("get", kind, "--selector", wanted, "--output", "json"))
        items: list[Object] = answer["items"]
        if kind == "pods":
            self.admitted |= {pod["metadata"]["name"] for pod in items}
        return items

    def apply(self, *objects: Object | str) -> None:
        """Apply objects, or manifests as text."""
        for each in objects:
            text = each if isinstance(each, str) else json.dumps(each)
            self.kubectl("apply", "--filename", "-", stdin=text)

    def secret(self, name: str, **data: str) -> None:
        """Write a Secret, also over one that is there."""
        self.apply(up.secret(name, **data))

    def rolled_out(self, what: str, *, seconds: float = 120) -> None:
        """Wait until every pod of a Deployment or StatefulSet is the newest, and ready."""
        self.kubectl(
            "rollout", "status", what, "--timeout", f"{seconds:g}s", seconds=seconds + GRACE_SECONDS
        )

    def story(self) -> str:
        """Return what a person would look at first when something went wrong here."""
        parts = [
            self.kubectl("get", "all", "--output", "wide"),
            self.kubectl("get", "events", "--field-selector", "type!=Normal"),
        ]
        for pod in self.find("pods"):
            name = pod["metadata"]["name"]
            try:
                log = self.kubectl("logs", name, "--all-containers", "--tail", "30")
            except CommandFailed as error:
                log = str(error)
            parts.append(f"--- {name}\n{log}")
        return "\n".join(parts)


def cores(quantity: str) -> float:
    """Return a quantity of CPU, such as 1500m, as cores."""
    return float(quantity[:-1]) / 1000 if quantity.endswith("m") else float(quantity)


def restarts(pods: list[Object]) -> int:
    """Count the containers that were started again."""
    return sum(
        status["restartCount"]
        for pod in pods
        for status in pod["status"].get("containerStatuses", [])
    )


def is_ready(pod: Object) -> bool:
    """Tell whether a pod gets traffic."""
    conditions = {each["type"]: each["status"] for each in pod["status"].get("conditions", [])}
    return conditions.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]


def names(objects: list[Object]) -> set[str]:
    """Return the names of objects."""
    return {each["metadata"]["name"] for each in objects}
