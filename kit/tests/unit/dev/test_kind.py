"""What `make kind` does, here and where docker is on another machine."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from kit.tests.support.paths import SERVICE
from slipway_kit.dev import kind

LOCAL: dict[str, str] = {}
REMOTE = {"DOCKER_HOST": "tcp://docker:2376"}


def commands(environment: dict[str, str]) -> list[tuple[list[str], str]]:
    ran: list[tuple[list[str], str]] = []

    def run(command: list[str], stdin: str = "") -> str:
        ran.append((command, stdin))
        return ""

    kind.create("shop", environment, run=run)
    return ran


def test_kind_gets_the_two_nodes_of_the_tests() -> None:
    command, config = commands(LOCAL)[0]
    assert command[:5] == ["kind", "create", "cluster", "--name", "shop"]
    assert command[-2:] == ["--config", "-"]
    assert config == kind.CONFIG.read_text()


def test_metrics_server_is_installed_trusts_kind_and_is_waited_for() -> None:
    (apply, _), (patch, _), (rollout, _) = commands(LOCAL)[1:]
    assert all("kind-shop" in command for command in (apply, patch, rollout))
    assert apply[-1].endswith("/v0.8.1/components.yaml")
    (change,) = json.loads(patch[-1])
    assert change["value"] == "--kubelet-insecure-tls"
    assert "status" in rollout


def test_on_another_machine_the_api_listens_and_kubectl_goes_there() -> None:
    (_, config), (command, _) = commands(REMOTE)[:2]
    assert yaml.safe_load(config)["networking"] == {
        "apiServerAddress": "0.0.0.0",
        "apiServerPort": 6443,
    }
    assert command == [
        *("kubectl", "config", "set-cluster", "kind-shop"),
        *("--server", "https://docker:6443", "--tls-server-name", "localhost"),
    ]


@pytest.mark.parametrize(
    ("docker", "host"),
    [
        ("", ""),
        ("unix:///var/run/docker.sock", ""),
        ("tcp://localhost:2375", ""),
        ("tcp://127.0.0.1:2375", ""),
        ("tcp://docker:2376", "docker"),
    ],
)
def test_docker_is_elsewhere_when_its_address_says_so(docker: str, host: str) -> None:
    assert kind.remote_host({"DOCKER_HOST": docker} if docker else {}) == host


@pytest.mark.parametrize("folder", [SERVICE, Path("/")])
def test_python_alone_is_enough_to_say_what_is_missing(folder: Path) -> None:
    done = subprocess.run(
        # Without what is installed.
        [sys.executable, "-S", "-m", "slipway_kit.dev.kind"],
        cwd=folder,
        env={"PATH": "", "PYTHONPATH": str(SERVICE)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert (
        done.stderr
        == {
            SERVICE: "error: kind is missing: install it.\n",
            Path("/"): "error: there is no app/about.py in /: run this in a service's folder.\n",
        }[folder]
    )
