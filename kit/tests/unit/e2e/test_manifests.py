"""The files that the end-to-end tests hand to kind and to kubectl."""

from pathlib import Path

import yaml

from kit.tests.e2e.release import MAX_CONNECTIONS
from slipway_kit.dev import kind

FILES = Path(kind.__file__).with_name("files")


def test_kind_gets_two_nodes_that_take_pods() -> None:
    config = yaml.safe_load((FILES / "kind.yaml").read_text(encoding="utf-8"))
    assert (config["kind"], config["apiVersion"]) == ("Cluster", "kind.x-k8s.io/v1alpha4")
    roles = [node["role"] for node in config["nodes"]]
    assert roles.count("control-plane") == 1
    assert roles.count("worker") >= 2


def test_the_database_accepts_what_the_tests_reckon_with() -> None:
    objects = yaml.safe_load_all((FILES / "postgres.yaml").read_text(encoding="utf-8"))
    (pods,) = (each["spec"]["template"]["spec"] for each in objects if "template" in each["spec"])
    (container,) = pods["containers"]
    assert container["args"] == ["postgres", "-c", f"max_connections={MAX_CONNECTIONS}"]


def test_the_database_is_let_into_a_restricted_namespace() -> None:
    objects = yaml.safe_load_all((FILES / "postgres.yaml").read_text(encoding="utf-8"))
    (pods,) = (each["spec"]["template"]["spec"] for each in objects if "template" in each["spec"])
    assert pods["securityContext"]["runAsNonRoot"]
    assert pods["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pods["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        }
