"""Make a Kubernetes of two nodes with kind, with what `make e2e` wants of it: metrics-server.

`make kind` calls it; NetworkPolicy is enforced by kind itself, 0.24 or newer. Where docker is on
another machine, as in a pipeline (DOCKER_HOST=tcp://docker:2376), the cluster listens there, and
kubectl is told so. `kind delete cluster --name NAME` removes it.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from slipway_kit.dev import about, programs

CONFIG = Path(__file__).with_name("files") / "kind.yaml"
METRICS_SERVER = (
    "https://github.com/kubernetes-sigs/metrics-server/releases/download/v0.8.1/components.yaml"
)
# kubelets of kind have certificates that nobody signed.
ARGUMENTS = "/spec/template/spec/containers/0/args/-"
TRUSTING = f'[{{"op": "add", "path": "{ARGUMENTS}", "value": "--kubelet-insecure-tls"}}]'
API_PORT = 6443


def remote_host(environment: Mapping[str, str]) -> str:
    """Return the machine that docker is on; empty when it is this one."""
    where = urlsplit(environment.get("DOCKER_HOST", ""))
    host = where.hostname if where.scheme == "tcp" else None
    return "" if host in {None, "localhost", "127.0.0.1"} else str(host)


def config(text: str, host: str) -> str:
    """Return kind's configuration; for another machine the API must not listen on its loopback."""
    if not host:
        return text
    return f'{text}networking:\n  apiServerAddress: "0.0.0.0"\n  apiServerPort: {API_PORT}\n'


def create(name: str, environment: Mapping[str, str], *, run: programs.Run = programs.run) -> None:
    """Make the cluster `name`, to which kubectl speaks from then on."""
    host = remote_host(environment)
    text = config(CONFIG.read_text(encoding="utf-8"), host)
    run(["kind", "create", "cluster", "--name", name, "--wait", "3m", "--config", "-"], text)
    if host:
        server = ["--server", f"https://{host}:{API_PORT}", "--tls-server-name", "localhost"]
        run(["kubectl", "config", "set-cluster", f"kind-{name}", *server])
    kubectl = ["kubectl", "--context", f"kind-{name}"]
    run([*kubectl, "apply", "--filename", METRICS_SERVER])
    system = [*kubectl, "--namespace", "kube-system"]
    patch = ["patch", "deployment", "metrics-server", "--type", "json", "--patch", TRUSTING]
    run([*system, *patch])
    run([*system, "rollout", "status", "deployment/metrics-server", "--timeout", "3m"])


if __name__ == "__main__":
    try:
        create(about.read().slug, os.environ)
    except programs.ProgramError as problem:
        sys.exit(f"error: {problem}")
