import asyncio
import signal
import socket
import subprocess
import sys
from pathlib import Path

from pydantic import SecretStr

from kit.tests.runtime.harness import environment
from kit.tests.support import revisions
from kit.tests.support.paths import SERVICE
from slipway_kit.db.migrations import applied_versions
from slipway_kit.db.settings import DatabaseSettings

PROGRAM = """
import sys
from pathlib import Path

from slipway_kit.db import migrations
from slipway_kit.db.settings import DatabaseSettings

migrations.upgrade(DatabaseSettings(url=sys.argv[1]), Path(sys.argv[2]))
"""


def test_of_four_migrators_at_once_one_applies(tmp_path: Path, empty_url: str) -> None:
    # Without the lock, two would create the same table, and the index would wait for ever.
    folder = revisions.write(tmp_path)
    slow = 'op.execute("CREATE TABLE ta3 AS SELECT pg_sleep(0.3)::text")'
    revisions.add(folder, "a3", "a2", slow)
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, empty_url, str(folder)],
            cwd=SERVICE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(4)
    ]
    outputs = [process.communicate()[0] for process in started]
    assert [process.returncode for process in started] == [0] * 4, outputs
    applied = [output.count("migration applied") for output in outputs]
    assert sorted(applied) == [0, 0, 0, 3]
    assert asyncio.run(applied_versions(DatabaseSettings(url=SecretStr(empty_url)))) == {"a3"}


def test_a_migration_that_is_cut_off_does_not_look_done() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(20)
        port = silent.getsockname()[1]
        process = subprocess.Popen(
            [sys.executable, "-m", "app", "migrate"],
            cwd=SERVICE,
            env=environment(f"postgresql://nobody@127.0.0.1:{port}/none"),
            stdout=subprocess.DEVNULL,
        )
        connection, _ = silent.accept()
        with connection:
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 128 + signal.SIGTERM
