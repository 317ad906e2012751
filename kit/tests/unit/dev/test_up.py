"""What `make up` and `make down` ask of a cluster, without one."""

import json
import socket
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from slipway_kit.dev import up


@dataclass
class FakeCluster:
    """Answers for kubectl and helm: knows which objects are there, and remembers what was run."""

    there: set[str] = field(default_factory=set)
    ran: list[list[str]] = field(default_factory=list)
    applied: list[str] = field(default_factory=list)

    def run(self, command: list[str], stdin: str = "") -> str:
        self.ran.append(command)
        words = [word for word in command[3:] if not word.startswith("-")]
        if words[:1] == ["get"]:
            return f"{words[1]}/{words[2]}\n" if f"{words[1]}/{words[2]}" in self.there else ""
        if words[:1] == ["apply"]:
            self.applied.append(stdin)
            if stdin.startswith("{"):
                made = json.loads(stdin)["items"]
                self.there |= {f"secret/{each['metadata']['name']}" for each in made}
        return ""

    def did(self, *words: str) -> bool:
        return any(all(word in command for word in words) for command in self.ran)


@pytest.fixture
def fake() -> FakeCluster:
    return FakeCluster()


@pytest.fixture
def place(fake: FakeCluster) -> up.Place:
    return up.Place("trials", "shop", run=fake.run)


def test_a_namespace_is_made_once_and_marked(place: up.Place, fake: FakeCluster) -> None:
    place.make()
    assert fake.did("create", "namespace", "trials")
    assert fake.did("label", "namespace", "trials", "app.kubernetes.io/managed-by=make-up")


def test_a_namespace_of_others_is_used_and_not_marked(place: up.Place, fake: FakeCluster) -> None:
    fake.there.add("namespace/trials")
    place.make()
    assert not fake.did("create")
    assert not fake.did("label")


def test_a_namespace_that_is_not_there_is_one_sentence(place: up.Place) -> None:
    with pytest.raises(up.UpError, match="there is no namespace trials"):
        place.remove()


def test_a_namespace_of_others_is_never_removed(place: up.Place, fake: FakeCluster) -> None:
    fake.there.add("namespace/trials")
    with pytest.raises(up.UpError, match=r"did not make the namespace trials.*helm uninstall"):
        place.remove()
    assert not fake.did("delete")


def test_the_own_namespace_is_removed(place: up.Place, fake: FakeCluster) -> None:
    def run(command: list[str], stdin: str = "") -> str:
        fake.run(command, stdin)
        return "namespace/trials\n" if "--selector" in command else ""

    up.Place("trials", "shop", run=run).remove()
    assert fake.did("delete", "namespace", "trials")


def test_a_database_is_installed_whose_secret_fits(place: up.Place, fake: FakeCluster) -> None:
    place.give_database()
    secrets, manifest = fake.applied
    password, address = (each["stringData"] for each in json.loads(secrets)["items"])
    assert address["url"] == f"postgresql://service:{password['password']}@postgres:5432/service"
    assert "image: postgres:17" in manifest
    assert fake.did("rollout", "status", "statefulset/postgres")


def test_a_second_time_keeps_the_password(place: up.Place, fake: FakeCluster) -> None:
    place.give_database()
    place.give_database()
    assert [each[:1] for each in fake.applied].count("{") == 1


def test_a_database_that_a_secret_names_is_used(place: up.Place, fake: FakeCluster) -> None:
    fake.there.add("secret/shop-database")
    place.give_database()
    assert fake.applied == []


def test_the_chart_is_installed_with_the_image_and_the_values_of_developers(
    place: up.Place, fake: FakeCluster
) -> None:
    place.install("registry.example:5000/shop:dev-0a1b2c3d4e5f")
    (command,) = fake.ran
    image = "image.repository=registry.example:5000/shop,image.tag=dev-0a1b2c3d4e5f"
    assert command[command.index("--set-string") + 1] == image
    assert Path(command[command.index("--values") + 1]).name == "values-dev.yaml"
    assert Path(command[command.index("--values") + 1]).exists()
    assert "--wait" in command


def test_a_port_in_use_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(up.UpError, match=f"port {port} is in use"):
            up.require_free(port)
    up.require_free(port)
