"""The PostgreSQL out of a wheel: found again, ended for certain, at home in any folder."""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import psutil
import pytest

from kit.tests.support.paths import SERVICE
from slipway_kit.dev import postgres, postgres_server


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A state folder of the test's own; whatever runs in it is ended."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    yield tmp_path
    server = postgres_server.Server(postgres_server.data_folder(tmp_path))
    server.stop()
    # As root it lies in the temporary folder and not below tmp_path.
    shutil.rmtree(server.folder, ignore_errors=True)


def processes(folder: Path) -> list[psutil.Process]:
    return [each for each in psutil.process_iter() if str(folder) in " ".join(command(each))]


def command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def folder_of(url: str) -> Path:
    return Path(parse_qs(urlsplit(url).query)["host"][0])


@pytest.mark.anyio
async def test_a_throw_away_server_answers_and_leaves_nothing() -> None:
    with postgres.open_postgres() as url:
        connection = await asyncpg.connect(url)
        assert await connection.fetchval("show server_version_num") >= "180000"
        await connection.close()
    assert not folder_of(url).exists()
    assert not processes(folder_of(url))


@pytest.mark.anyio
async def test_a_throw_away_server_takes_own_settings_and_files() -> None:
    files, conf = {"note.txt": "here"}, {"work_mem": "7MB"}
    with postgres.open_postgres(conf=conf, files=files) as url:
        connection = await asyncpg.connect(url)
        assert await connection.fetchval("show work_mem") == "7MB"
        assert await connection.fetchval("select pg_read_file('note.txt')") == "here"
        await connection.close()


def test_a_wrong_setting_is_one_error_with_the_servers_own_words() -> None:
    with (
        pytest.raises(postgres_server.PostgresError, match="no_such_setting"),
        postgres.open_postgres(conf={"no_such_setting": "1"}),
    ):
        pass


def test_it_ends_when_its_owner_is_killed() -> None:
    code = (
        "import os, signal\n"
        "from slipway_kit.dev.postgres import open_postgres\n"
        "with open_postgres() as url:\n"
        "    print(url, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=SERVICE, capture_output=True, text=True, check=False
    )
    folder = folder_of(done.stdout.strip())
    gone, alive = psutil.wait_procs(processes(folder), timeout=20)
    assert not alive, gone


def start(service: Path) -> int:
    """Start it as `make run` does, from a process that ends, and return the server's id."""
    code = (
        "import sys, pathlib; from slipway_kit.dev import postgres;"
        " postgres.start(pathlib.Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", code, str(service)], cwd=SERVICE, check=True)
    pid = postgres_server.Server(postgres_server.data_folder(service)).pid()
    assert pid is not None
    return pid


def test_it_is_found_again_and_ended(state: Path) -> None:
    pid = start(state)
    assert start(state) == pid
    server = postgres_server.Server(postgres_server.data_folder(state))
    server.stop()
    assert server.pid() is None
    assert not psutil.pid_exists(pid)


def test_it_is_empty_after_a_reset(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def tables(statement: str = "SELECT 1") -> list[str]:
        connection = await asyncpg.connect(postgres_server.Server(folder).url)
        await connection.execute(statement)
        rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        await connection.close()
        return [row[0] for row in rows]

    folder = postgres_server.data_folder(state)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    start(state)
    assert asyncio.run(tables("CREATE TABLE games ()")) == ["games"]
    postgres.reset(state)
    start(state)
    assert asyncio.run(tables()) == []


def test_a_database_of_ones_own_is_never_reset(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = start(state)
    (state / ".env").write_text("DATABASE_URL=postgresql://db.example/x\n")
    monkeypatch.delenv("DATABASE_URL", raising=False)
    with pytest.raises(postgres_server.PostgresError, match="a database of yours"):
        postgres.reset(state)
    assert psutil.pid_exists(pid)


def test_it_starts_again_after_a_crash_though_the_id_belongs_to_another(state: Path) -> None:
    process = psutil.Process(start(state))
    process.kill()
    process.wait(20)
    server = postgres_server.Server(postgres_server.data_folder(state))
    for lock in (server.data / "postmaster.pid", server.data / ".s.PGSQL.5432.lock"):
        _, *rest = lock.read_text().splitlines()
        lock.write_text("\n".join([str(os.getpid()), *rest]))
    assert server.pid() is None
    assert start(state) not in {process.pid, os.getpid()}


@pytest.mark.parametrize("name", ["plain", "with a space", "x" * 90])
def test_the_data_lies_in_the_state_folder_unless_its_path_is_odd(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", f"/state/{name}")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    inside = str(postgres_server.data_folder(Path("/shop"))).startswith("/state")
    assert inside == (name == "plain")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert not str(postgres_server.data_folder(Path("/shop"))).startswith("/state")


def test_two_working_copies_have_two_databases() -> None:
    one, two = (postgres_server.data_folder(Path(f"/{each}/shop")) for each in ("one", "two"))
    assert one != two


def test_a_folder_of_somebody_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(postgres_server.PostgresError, match="belongs to somebody else"):
        postgres_server.own(tmp_path)


def test_the_environment_wins_over_the_env_file_and_a_named_database_starts_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("DATABASE_HOST=db.example\nPORT=8001\nLOG_LEVEL=DEBUG\n")
    monkeypatch.setenv("PORT", "8002")
    monkeypatch.delenv("DATABASE_URL", raising=False)
    merged = postgres.environment(tmp_path)
    assert (merged["PORT"], merged["LOG_LEVEL"]) == ("8002", "DEBUG")
    assert "DATABASE_URL" not in merged


def test_a_data_folder_that_cannot_be_written_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A file, for root may write into any folder.
    (tmp_path / "state").touch()
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    monkeypatch.setattr(postgres, "data_folder", lambda _: tmp_path / "state/data")
    for command in ("url", "reset"):
        with pytest.raises(postgres_server.PostgresError, match=r"set XDG_STATE_HOME to a folder"):
            postgres.main(command)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(postgres_server.PostgresError, match=r"set TMPDIR to a folder"):
        postgres.main("url")
