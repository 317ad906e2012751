"""What `make e2e` of a service asks of a cluster, without one."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from slipway_kit.dev import client, e2e, up

IMAGE = "registry.example/shop:dev-1"
PATHS = ["/api/v1/games", "/health"]


@dataclass
class FakeCluster:
    """Remembers what was run, and shows one after another what the client has seen."""

    logs: list[dict[str, int]]
    ran: list[list[str]] = field(default_factory=list)
    applied: list[str] = field(default_factory=list)

    def run(self, command: list[str], stdin: str = "") -> str:
        self.ran.append(command)
        self.applied += [stdin] if stdin else []
        if "logs" not in command:
            return ""
        return json.dumps(self.logs.pop(0) if len(self.logs) > 1 else self.logs[0])


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(e2e, "LAST_SECONDS", 0)


def try_out(*logs: dict[str, int]) -> tuple[str, FakeCluster]:
    fake = FakeCluster(list(logs))
    return e2e.try_out(up.Place("trials", "shop", run=fake.run), IMAGE, PATHS), fake


def test_it_installs_tests_and_upgrades_to_other_pods_in_this_order() -> None:
    said, fake = try_out({"ok": 5}, {"ok": 9}, {"ok": 109})
    assert said == "Installed, tested and upgraded: 100 requests meanwhile, and none failed."
    helm = [command for command in fake.ran if command[0] == "helm"]
    assert [command[1] for command in helm] == ["upgrade", "test", "upgrade"]
    first, second = (" ".join(helm[number]) for number in (0, 2))
    assert "podAnnotations.e2e=" not in first
    assert "podAnnotations.e2e=" in second


def test_the_client_asks_for_the_paths_from_a_strict_pod_with_the_services_image() -> None:
    _, fake = try_out({"ok": 5}, {"ok": 9}, {"ok": 109})
    (pod,) = (json.loads(text) for text in fake.applied)
    (container,) = pod["spec"]["containers"]
    assert container["image"] == IMAGE
    assert container["command"][-3:] == ["http://shop", *PATHS]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert pod["spec"]["securityContext"]["runAsNonRoot"] is True


def test_one_failed_request_of_the_upgrade_is_told_with_its_reason() -> None:
    seen = {"ok": 109, "http://shop/health: reset": 1, "before": 2}
    with pytest.raises(e2e.E2EError, match=r"cost 1 requests: .*health: reset': 1\}"):
        try_out({"ok": 5, "before": 2}, {"ok": 9, "before": 2}, seen)


def test_an_upgrade_that_nobody_watched_is_no_success() -> None:
    with pytest.raises(e2e.E2EError, match="nothing was asked"):
        try_out({"ok": 5})


def test_a_service_that_answers_nothing_is_told_before_the_upgrade() -> None:
    fake = FakeCluster([{"refused": 4}])
    place = up.Place("trials", "shop", run=fake.run)
    with pytest.raises(e2e.E2EError, match=r"no path answers: \{'refused': 4\}"):
        e2e.wait_until_it_asks(place, seconds=0)


class Half(BaseHTTPRequestHandler):
    """Answers /good, and hangs up amid the answer to anything else."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok" if self.path == "/good" else b"o")

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Half) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_the_client_counts_answers_and_each_way_to_fail() -> None:
    with serving() as url:
        process = subprocess.Popen(
            [sys.executable, "-S", client.__file__, url, "/good", "/bad"],
            stdout=subprocess.PIPE,
            text=True,
        )
        with process:
            assert process.stdout is not None
            outcomes = json.loads(process.stdout.readline())
            process.kill()
    bad = next(name for name in outcomes if name != "ok")
    assert outcomes.keys() == {"ok", bad}
    assert bad == f"{url}/bad: IncompleteRead(1 bytes read, 1 more expected)"
    assert min(outcomes.values()) > 0
