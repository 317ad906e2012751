"""A run of the tests that is killed leaves no process behind."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from kit.tests.faults.world import PREFIX, remove_stale
from kit.tests.runtime.harness import environment
from kit.tests.support.paths import SERVICE

KILL = """
def killed(*pids):
    started = [psutil.Process(pid) for pid in pids]
    children = [child for each in started for child in each.children(recursive=True)]
    print(*[each.pid for each in [*started, *children]], flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
HARNESS = """
from kit.tests.runtime.harness import SCENARIOS, Service, environment
service = Service(Path(sys.argv[1]), SCENARIOS, environment(sys.argv[2]))
service.wait_ready(2)
killed(service.master)
"""
FAULTS = """
from kit.tests.faults.world import Database, WatchedService, settings
database = Database()
service = WatchedService(Path(sys.argv[1]), settings(database))
service.wait_ready(2)
killed(service.master, database.processes()[0].pid)
"""
REAL_START = """
from slipway_kit.testing import checks
from slipway_kit.testing.checks import real_start
real_start._ended = lambda process: killed(process.pid)
checks.start(Path.cwd(), sys.argv[2])
"""


@pytest.mark.parametrize(
    "program", [HARNESS, FAULTS, REAL_START], ids=["harness", "faults", "real start"]
)
def test_a_killed_run_leaves_no_server(program: str, tmp_path: Path, migrated_url: str) -> None:
    imports = "import os, psutil, signal, sys\nfrom pathlib import Path\n"
    done = subprocess.run(
        [sys.executable, "-c", imports + KILL + program, str(tmp_path / "log"), migrated_url],
        cwd=SERVICE,
        env=environment(migrated_url),
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) >= 3
    left = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    _, alive = psutil.wait_procs(left, timeout=20)
    assert not alive


def test_the_next_run_removes_the_data_of_one_that_was_killed(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for pid in (ended.pid, os.getpid()):
        (tmp_path / f"{PREFIX}{pid}-abc" / "data").mkdir(parents=True)
    remove_stale(tmp_path)
    assert [folder.name for folder in tmp_path.iterdir()] == [f"{PREFIX}{os.getpid()}-abc"]
