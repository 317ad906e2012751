"""Load the image into the cluster of kubectl's current context, and print its name there.

`make e2e` calls it. kind, k3d and minikube have commands of their own, and take an archive of the
image, so that it does not matter which engine built it. For another cluster either
IMAGE_LOAD is a command that gets the path of such an archive as its last argument, or
IMAGE_REGISTRY is a registry that the cluster pulls from, such as registry.example.com/team.
"""

import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from slipway_kit.dev import about, image, programs

CONTEXT = ["kubectl", "config", "current-context"]
ANSWER_SECONDS = 30


class ClusterError(Exception):
    """The image did not reach the cluster; the text says what to do."""


def current_context() -> str:
    """Return the name of the cluster that kubectl speaks to."""
    if programs.find("kubectl") is None:
        raise ClusterError("kubectl is missing: install it, and name a cluster to it.")
    try:
        return programs.run(CONTEXT, seconds=ANSWER_SECONDS).strip()
    except programs.ProgramError:
        raise ClusterError(
            "kubectl knows no cluster: `kind create cluster` makes one, or set KUBECONFIG."
        ) from None


def loader(context: str, environment: Mapping[str, str]) -> list[str]:
    """Return the command that takes an archive into the cluster; IMAGE_LOAD wins."""
    if given := shlex.split(environment.get("IMAGE_LOAD", "")):
        return given
    kind, _, name = context.partition("-")
    if kind == "kind" and name:
        return ["kind", "load", "image-archive", "--name", name]
    if kind == "k3d" and name:
        return ["k3d", "image", "import", "--cluster", name]
    if context == "minikube":
        return ["minikube", "image", "load"]
    raise ClusterError(
        f"the image does not get into the cluster of the context {context} by itself: set"
        " IMAGE_REGISTRY to a registry that it pulls from, or IMAGE_LOAD to a command that gets"
        " the path of the image's archive."
    )


def qualified(name: str) -> str:
    """Return the name as Kubernetes reads it: one without a host is of Docker's registry."""
    host, slash, _ = name.partition("/")
    if slash and (host == "localhost" or "." in host or ":" in host):
        return name
    return f"docker.io/{name}" if slash else f"docker.io/library/{name}"


def archive_command(engine: str, name: str, path: Path) -> list[str]:
    """Return the command that writes an archive of the image."""
    if engine == "docker":
        return ["docker", "save", "--output", str(path), name]
    # Their own `save` would name an image without a host localhost/...
    return [engine, "push", "--quiet", name, f"docker-archive:{path}:{qualified(name)}"]


def push_commands(engine: str, name: str, there: str) -> list[list[str]]:
    """Return the commands that bring the image into a registry as `there`."""
    if engine == "docker":
        return [["docker", "tag", name, there], ["docker", "push", "--quiet", there]]
    return [[engine, "push", "--quiet", name, f"docker://{there}"]]


def deliver(
    name: str,
    *,
    engine: str,
    environment: Mapping[str, str],
    context: Callable[[], str] = current_context,
    run: Callable[[list[str]], object] = programs.run,
) -> str:
    """Bring the image to where the cluster finds it, and return its name there."""
    if registry := environment.get("IMAGE_REGISTRY", "").rstrip("/"):
        there = f"{registry}/{name.rpartition('/')[2]}"
        for command in push_commands(engine, name, there):
            run(command)
        return there
    load = loader(context(), environment)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.tar"
        run(archive_command(engine, name, path))
        run([*load, str(path)])
    return name


def main(environment: Mapping[str, str]) -> str:
    """Deliver the image that `make image` built last."""
    service = about.read()
    name = environment.get("IMAGE") or image.default_name(service.image, service.version)
    engine = image.find_engine(environment.get("ENGINE", ""))
    return deliver(name, engine=engine, environment=environment)


if __name__ == "__main__":
    try:
        print(main(os.environ))
    except (ClusterError, image.ImageError, programs.ProgramError) as problem:
        sys.exit(f"error: {problem}")
