"""How the image gets into the cluster of the current context, and what is said when it cannot."""

import subprocess
import sys
from pathlib import Path

import pytest

from kit.tests.support.paths import SERVICE
from slipway_kit.dev import cluster

NAME = "ghcr.io/example/shop:1"


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("kind-kind", ["kind", "load", "image-archive", "--name", "kind"]),
        ("kind-two-nodes", ["kind", "load", "image-archive", "--name", "two-nodes"]),
        ("k3d-dev", ["k3d", "image", "import", "--cluster", "dev"]),
        ("minikube", ["minikube", "image", "load"]),
    ],
)
def test_local_clusters_are_loaded_by_their_own_commands(name: str, command: list[str]) -> None:
    assert cluster.loader(name, {}) == command


@pytest.mark.parametrize("name", ["kind-kind", "production"])
def test_a_command_of_ones_own_wins_and_is_split_as_a_shell_does(name: str) -> None:
    command = cluster.loader(name, {"IMAGE_LOAD": "'/my tools/load' --now"})
    assert command == ["/my tools/load", "--now"]


@pytest.mark.parametrize("name", ["production", "kind-", "kindness", "k3d-"])
def test_an_unknown_cluster_is_one_sentence_that_says_what_to_set(name: str) -> None:
    with pytest.raises(cluster.ClusterError, match=r"IMAGE_REGISTRY .* or IMAGE_LOAD") as raised:
        cluster.loader(name, {})
    assert f"context {name} " in str(raised.value)


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("shop:1", "docker.io/library/shop:1"),
        ("team/shop:1", "docker.io/team/shop:1"),
        (NAME, NAME),
        ("localhost/shop:1", "localhost/shop:1"),
        ("registry:5000/shop:1", "registry:5000/shop:1"),
    ],
)
def test_an_archive_names_the_image_as_kubernetes_does(name: str, full: str) -> None:
    assert cluster.qualified(name) == full
    command = cluster.archive_command("buildah", name, Path("/tmp/x.tar"))
    assert command == ["buildah", "push", "--quiet", name, f"docker-archive:/tmp/x.tar:{full}"]


def test_docker_saves_in_its_own_way() -> None:
    command = cluster.archive_command("docker", NAME, Path("/tmp/x.tar"))
    assert command == ["docker", "save", "--output", "/tmp/x.tar", NAME]


def test_what_is_loaded_is_the_archive_that_was_written() -> None:
    ran: list[list[str]] = []
    there = cluster.deliver(
        NAME,
        engine="podman",
        environment={},
        context=lambda: "kind-dev",
        run=ran.append,
    )
    assert there == NAME
    (save, load) = ran
    path = load[-1]
    assert save == ["podman", "push", "--quiet", NAME, f"docker-archive:{path}:{NAME}"]
    assert load == ["kind", "load", "image-archive", "--name", "dev", path]
    assert not Path(path).parent.exists()


@pytest.mark.parametrize(
    ("engine", "commands"),
    [
        (
            "docker",
            [
                ["docker", "tag", NAME, "here:5000/team/shop:1"],
                ["docker", "push", "--quiet", "here:5000/team/shop:1"],
            ],
        ),
        ("podman", [["podman", "push", "--quiet", NAME, "docker://here:5000/team/shop:1"]]),
    ],
)
def test_a_registry_gets_the_image_and_names_it(engine: str, commands: list[list[str]]) -> None:
    ran: list[list[str]] = []
    there = cluster.deliver(
        NAME, engine=engine, environment={"IMAGE_REGISTRY": "here:5000/team/"}, run=ran.append
    )
    assert there == "here:5000/team/shop:1"
    assert ran == commands


def test_no_cluster_at_all_is_one_sentence(tmp_path: Path) -> None:
    for name, text in (("buildah", "exit 0"), ("kubectl", "exit 1")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-m", "slipway_kit.dev.cluster"],
        cwd=SERVICE,
        env={"IMAGE": NAME, "PATH": f"{tmp_path}:/usr/bin:/bin", "ENGINE": "buildah"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: kubectl knows no cluster: `kind create cluster`")
    assert done.stderr.count("\n") == 1
