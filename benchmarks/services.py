"""The services that are measured: generated anew, with the measured routes as a feature."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from benchmarks.servers import Variant
from tools import scaffolding

TEMPLATE = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
COLLECTOR_PORT = "14318"
REFUSED = 503
SHOP = ("shop",)


def scaffold(folder: Path, **answers: str) -> Path:
    """Generate a service into an empty folder and return its own."""
    return scaffolding.scaffold(TEMPLATE, folder, answers=answers)


def with_feature(service: Path, name: str, *others: str) -> Path:
    """Give a service the routes of the module `name` in this folder, beside those of `others`."""
    feature = service / "app/features" / name
    feature.mkdir()
    (feature / "__init__.py").write_text('"""The measured routes."""\n')
    (feature / "routes.py").write_text(f"from benchmarks.{name} import router\n")
    enabled = f'"""The measured features."""\nFEATURES: tuple[str, ...] = {(*others, name)!r}\n'
    (service / "app/enabled.py").write_text(enabled)
    return service


@contextmanager
def database(service: Path) -> Iterator[dict[str, str]]:
    """Start the database that belongs to a service, and give the setting that names it."""
    url = _python(service, "-m", "slipway_kit.dev.postgres", "url").strip()
    try:
        yield {"DATABASE_URL": url}
    finally:
        _python(service, "-m", "slipway_kit.dev.postgres", "stop")


def migrate(service: Path, database: dict[str, str], *statements: str) -> None:
    """Make the tables of a service, and run statements on them."""
    _python(service, "-m", "app", "migrate", **database)
    script = (
        "import asyncio, asyncpg, os, sys\n"
        "async def main():\n"
        "    connection = await asyncpg.connect(os.environ['DATABASE_URL'])\n"
        "    for statement in sys.argv[1:]: await connection.execute(statement)\n"
        "asyncio.run(main())\n"
    )
    _python(service, "-c", script, *statements, **database)


def _python(service: Path, *arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=service,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout


def bare(
    factory: str, *, folder: Path = TEMPLATE, name: str = "bare FastAPI", **environment: str
) -> Variant:
    """Return an app on gunicorn with uvicorn's workers, as plain as it can be served."""
    command = (
        *(str(BIN / "gunicorn"), "--bind", "127.0.0.1:{port}", "--workers", "1", "--preload"),
        *("--worker-class", "uvicorn_worker.UvicornWorker", "--keep-alive", "75"),
        # Not the service's own configuration, which may lie in the same folder.
        *("--config", "python:benchmarks.plain", "--log-level", "error", factory),
    )
    return Variant(name, command, folder, {"PYTHONPATH": f"{TEMPLATE}", **environment})


def full(
    service: Path,
    name: str,
    *,
    sampled: float | None = None,
    settings: Mapping[str, str] = MappingProxyType({}),
) -> Variant:
    """Return a generated service as it runs in production; `sampled` is its share of traces."""
    given = {
        "APP_ENV": "production",
        "PYTHONPATH": str(TEMPLATE),
        "WEB_CONCURRENCY": "1",
        "METRICS_PORT": "0",
    }
    if sampled is not None:
        given |= {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{COLLECTOR_PORT}",
            "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": str(sampled),
        }
    command = (sys.executable, "-m", "app", "serve")
    return Variant(name, command, service, {**given, **settings})
