"""PostgreSQL from a wheel: for `make run` without a database of one's own, and for tests.

    python -m slipway_kit.dev.postgres url      start it, or find the one left behind; print its URL
    python -m slipway_kit.dev.postgres stop       end it; its data stays
    python -m slipway_kit.dev.postgres reset      end it; it is empty when it starts again
    python -m slipway_kit.dev.postgres exec ARGS  run `python ARGS` with DATABASE_URL set

`exec` reads .env, and starts nothing when that file or the environment names a database.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from dotenv import dotenv_values

from slipway_kit.dev.postgres_server import PostgresError, Server, data_folder, locked, own
from slipway_kit.dev.programs import end_with_us

# Where this package is found, from any folder.
LIBRARY = Path(__file__).parents[2]
# A throw-away server loses its data anyway: it need not wait for the disk.
THROW_AWAY = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


def start(service: Path) -> Server:
    """Return the running database of `service`, started if need be."""
    with _locked_server(service) as server:
        if not server.ready():
            print(f"Starting the embedded PostgreSQL in {server.folder}", file=sys.stderr)
            server.initialise({})
            server.forget_stranger()
            server.start({})
    return server


@contextmanager
def _locked_server(service: Path) -> Iterator[Server]:
    """Yield the server of `service`, which nobody else starts or ends meanwhile."""
    folder = data_folder(service)
    try:
        with locked(own(folder)):
            yield Server(folder)
    except OSError as error:
        name = "TMPDIR" if folder.is_relative_to(tempfile.gettempdir()) else "XDG_STATE_HOME"
        raise PostgresError(
            f"the embedded PostgreSQL cannot use {folder} ({error}): set {name} to a folder that"
            " can be written, or DATABASE_URL to a database of yours."
        ) from error


@contextmanager
def open_postgres(
    *,
    conf: Mapping[str, str] | None = None,
    files: Mapping[str, str] | None = None,
    programs: Path | None = None,
) -> Iterator[str]:
    """Yield the URL of a new server that ends with this block, or with this process.

    `conf` holds PostgreSQL's settings, `files` what to put beside them (a server.key, a
    pg_hba.conf), `programs` is the folder of another PostgreSQL than the wheel's.
    Everything lies in a temporary folder and is removed.
    """
    order = {
        "conf": dict(conf or {}),
        "files": dict(files or {}),
        "programs": programs and str(programs),
    }
    # The pipe tells the keeper when this process is gone, however it went.
    keeper = subprocess.Popen(
        [sys.executable, "-m", "slipway_kit.dev.postgres", "keep"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(LIBRARY), *sys.path])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    with keeper:
        if keeper.stdin is None or keeper.stdout is None:
            message = "the keeper has no pipes"
            raise PostgresError(message)
        keeper.stdin.write(json.dumps(order) + "\n")
        keeper.stdin.flush()
        answer = json.loads(keeper.stdout.readline() or '{"error": "the keeper was killed"}')
        if "error" in answer:
            raise PostgresError(answer["error"])
        yield answer["url"]


def keep() -> None:
    """Serve one throw-away database until the other end of standard input is closed."""
    order = json.loads(sys.stdin.readline())
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    folder.chmod(0o755)
    server = Server(folder, programs=order["programs"] and Path(order["programs"]))
    try:
        server.initialise(order["files"])
        server.start({**THROW_AWAY, **order["conf"]}, preexec_fn=end_with_us())
        print(json.dumps({"url": server.url}), flush=True)
        sys.stdin.read()
    except PostgresError as error:
        print(json.dumps({"error": str(error)}), flush=True)
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def environment(service: Path) -> dict[str, str]:
    """Return the environment with what .env adds, and with DATABASE_URL set for certain."""
    merged = _settings(service)
    if not _names_a_database(merged):
        merged["DATABASE_URL"] = start(service).url
    return merged


def reset(service: Path) -> None:
    """Empty the embedded database; raise `PostgresError` when another one is in use."""
    if _names_a_database(_settings(service)):
        raise PostgresError(
            "DATABASE_URL names a database of yours, which is not emptied: unset it, and the"
            " embedded one is."
        )
    with _locked_server(service) as server:
        server.stop()
        # The next start makes its data folder anew.
        (server.folder / "initialised").unlink(missing_ok=True)


def _settings(service: Path) -> dict[str, str]:
    written = dotenv_values(service / ".env")
    return {name: value for name, value in written.items() if value} | dict(os.environ)


def _names_a_database(settings: Mapping[str, str]) -> bool:
    return bool(settings.get("DATABASE_URL") or settings.get("DATABASE_HOST"))


def main(command: str, *rest: str) -> None:
    """Do what the command line asks."""
    service = Path.cwd()
    if command == "url":
        print(start(service).url)
    elif command == "stop":
        Server(data_folder(service)).stop()
    elif command == "reset":
        reset(service)
    elif command == "exec":
        os.execve(sys.executable, [sys.executable, *rest], environment(service))
    elif command == "keep":
        keep()
    else:
        raise PostgresError(f"unknown command {command}")


if __name__ == "__main__":
    try:
        main(*(sys.argv[1:] or ["url"]))
    except PostgresError as problem:
        sys.exit(f"error: {problem}")
