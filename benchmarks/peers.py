"""What others make of the same answer: other servers, and the service of another template.

What they need is installed on the spot, each into a folder of its own; nothing of it is a
dependency of this project.
"""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

from benchmarks import services
from benchmarks.cost import BARE, SMALL, Contest, Goal, compete
from benchmarks.report import Row
from benchmarks.servers import BenchError, Variant

GRANIAN = "granian==2.8.7"
PEER = "fastapi_template==6.1.2"
# What it is asked for: REST, metrics, its logger, gunicorn; no database, and no traces, for it
# sends those by gRPC alone.
ANSWERS = (
    *("--name", "peer", "--api-type", "rest", "--db", "none", "--orm", "none", "--ci", "none"),
    *("--loguru", "--prometheus", "--gunicorn", "--quiet", "--force"),
)
# What its service needs to answer: with a FastAPI as new as it allows, the instrumentator that it
# asks for fails on every route, and each request is a 500.
REPAIRS = {"prometheus-fastapi-instrumentator": "prometheus-fastapi-instrumentator>=8"}


def run(folder: Path, *, rounds: int, seconds: int) -> list[Row]:
    """Measure, round by round in turn, and return a row for each."""
    service = services.with_feature(services.scaffold(folder / "own", example="none"), "items")
    contest = Contest(
        "small JSON object, others",
        BARE,
        (
            Goal(services.bare("benchmarks.items:bare()"), SMALL),
            Goal(services.full(service, "the service without traces"), SMALL),
            Goal(_uvicorn(), SMALL),
            Goal(_granian(folder / "granian"), SMALL),
            Goal(_peer(folder / "peer"), SMALL),
        ),
    )
    return compete(contest, rounds=rounds, seconds=seconds)


def _uvicorn() -> Variant:
    """Return bare FastAPI on uvicorn, without gunicorn."""
    options = ("--port", "{port}", "--factory", "--no-access-log", "--log-level", "error")
    return _variant("bare FastAPI on uvicorn alone", ("uvicorn", *options, "benchmarks.items:bare"))


def _granian(folder: Path) -> Variant:
    """Return bare FastAPI on granian, a server in Rust."""
    _install(folder, GRANIAN)
    options = ("--interface", "asgi", "--port", "{port}", "--factory", "--log-level", "error")
    command = ("granian", *options, "--loop", "uvloop", "benchmarks.items:bare")
    return _variant(f"bare FastAPI on {GRANIAN}", command, folder)


def _peer(folder: Path) -> Variant:
    """Return the service of another template, repaired as far as it needs to start."""
    generator, libraries, made = folder / "generator", folder / "libraries", folder / "made"
    _install(generator, PEER)
    made.mkdir(parents=True)
    # It makes an environment with uv, which may fail: its libraries are installed below.
    _python(generator, "-m", "fastapi_template", *ANSWERS, cwd=made)
    project = made / "peer"
    described = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    _install(libraries, *map(repaired, described["project"]["dependencies"]))
    replace(
        project / "peer/web/api/router.py",
        "api_router = APIRouter()",
        "from benchmarks.items import router\n\n"
        'api_router = APIRouter()\napi_router.include_router(router, prefix="/v1")',
    )
    found = _variant(f"a service of {PEER}, without traces", ("peer",), libraries, project)
    command = ("sh", "-c", 'PEER_PORT={port} exec "$0" "$@"', *found.command)
    settings = {"PEER_PROMETHEUS_DIR": str(folder / "metrics"), "PEER_RELOAD": "false"}
    settings |= found.environment
    return Variant(found.name, command, project, settings)


def repaired(requirement: str) -> str:
    """Return a requirement of the other template, or what takes its place."""
    return REPAIRS.get(requirement.split(maxsplit=1)[0], requirement)


def _variant(name: str, command: tuple[str, ...], *paths: Path) -> Variant:
    """Return a module that is run with what lies in these folders."""
    found = os.pathsep.join(map(str, (*paths, services.TEMPLATE)))
    return Variant(name, (sys.executable, "-m", *command), services.TEMPLATE, {"PYTHONPATH": found})


def _install(folder: Path, *requirements: str) -> None:
    command = ("-m", "pip", "install", "--quiet", "--target", str(folder), *requirements)
    _python(folder, *command, cwd=services.TEMPLATE)


def _python(packages: Path, *arguments: str, cwd: Path) -> None:
    path = os.pathsep.join((str(services.BIN), os.environ["PATH"]))
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(packages), "PATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BenchError(f"{' '.join(arguments)} failed:\n{done.stdout[-2000:]}")


def replace(path: Path, old: str, new: str) -> None:
    """Replace a part of a file of the other template; raises `BenchError` when it is not there."""
    text = path.read_text(encoding="utf-8")
    if old not in text:
        raise BenchError(f"{path.name} of {PEER} does not hold {old!r}: it needs another repair")
    path.write_text(text.replace(old, new), encoding="utf-8")
