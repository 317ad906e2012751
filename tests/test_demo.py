"""`make demo` shows a working service, notices a wrong answer, and leaves nothing behind."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests import baking, machine

DEMO = [sys.executable, "-m", "tools.demo"]
EXPECTATIONS = baking.TEMPLATE / "tools" / "demo.toml"
SNAPSHOT = baking.TEMPLATE / baking.SERVICE / "tests/openapi.json"
SECONDS = 120


@pytest.fixture
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The temporary folder of one demonstration; nothing may run in it or stay in it."""
    folder = Path(tempfile.mkdtemp(prefix="t-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    assert not [path for path in folder.iterdir() if not path.name.startswith("embedded-")]
    assert not running(folder)
    baking.run("rm", "-r", folder, cwd=folder.parent)


def running(folder: Path) -> list[str]:
    """Return the commands of the processes that work in `folder` or name it."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(folder) in " ".join([process.cwd(), *process.cmdline()]):
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


def demonstrate(temporary: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*DEMO, *map(str, arguments)],
        cwd=baking.TEMPLATE,
        env=baking.environment(CI="true", TMPDIR=str(temporary)),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


@contextmanager
def serving(temporary: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start it; yield it, and what it has printed, when it serves."""
    with subprocess.Popen(
        DEMO,
        cwd=baking.TEMPLATE,
        env=baking.environment(CI="", TMPDIR=str(temporary)),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        printed, started = "", time.monotonic()
        for line in process.stdout:
            printed += line
            if "Serving until" in line or time.monotonic() - started > SECONDS:
                break
        yield process, printed


def ports(output: str) -> set[int]:
    return {int(port) for port in re.findall(r"http://127\.0\.0\.1:(\d+)/", output)}


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_it_shows_every_route_of_the_example() -> None:
    document = json.loads(SNAPSHOT.read_text())
    routes = {
        (method.upper(), re.compile(re.sub(r"\{\w+\}", r"\\d+", path)))
        for path, methods in document["paths"].items()
        for method in methods
    }
    routes.add(("WS", re.compile("/api/v1/games/till")))
    shown = tomllib.loads(EXPECTATIONS.read_text())["request"]
    assert [
        (method, path.pattern)
        for method, path in routes
        if not any(
            each["method"] == method and path.fullmatch(each["path"].partition("?")[0])
            for each in shown
        )
    ] == []


def test_it_ends_well_in_ci_and_leaves_no_port(temporary: Path) -> None:
    done = demonstrate(temporary)
    assert done.returncode == 0, done.stdout + done.stderr
    requests = EXPECTATIONS.read_text().count("[[request]]")
    assert done.stdout.count("\n  ok ") == requests
    assert f"{requests} of {requests} answers are as expected" in done.stdout
    assert "FAIL" not in done.stdout
    assert len(ports(done.stdout)) == 2
    assert not any(map(is_open, ports(done.stdout)))


def test_a_falsified_expectation_makes_it_fail(temporary: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(EXPECTATIONS.read_text().replace("There is no game", "There is a game"))
    done = demonstrate(temporary, wrong)
    assert done.returncode == 1
    assert done.stdout.count("\n  FAIL ") == 1
    assert "error: 1 answers were not as expected" in done.stderr
    assert not any(map(is_open, ports(done.stdout)))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_it_serves_until_it_is_told_to_stop_beside_another_on_its_ports(
    temporary: Path, how: signal.Signals
) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if not is_open(8000):
            taken.bind(("127.0.0.1", 8000))
            taken.listen()
        with serving(temporary) as (process, printed):
            assert "Port 8000 is taken" in printed
            assert 8000 not in ports(printed)
            assert all(map(is_open, ports(printed)))
            os.kill(process.pid, how)
            assert process.stdout
            assert "Stopping" in process.stdout.read()
        assert process.returncode == 0
        assert not any(map(is_open, ports(printed)))


def test_a_killed_one_leaves_no_process() -> None:
    with machine.folder_for_databases() as folder:
        with serving(folder) as (process, printed):
            process.kill()
        deadline = time.monotonic() + SECONDS
        while running(folder) or any(map(is_open, ports(printed))):
            assert time.monotonic() < deadline, running(folder)
            time.sleep(0.1)
