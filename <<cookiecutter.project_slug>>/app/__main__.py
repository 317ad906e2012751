"""`python -m app`: serve, migrate, print the capacity contract or the API's document."""

import os
import signal
import sys

if __name__ == "__main__":
    # As process 1 of a container a signal without a handler is lost, and imports take a while.
    # An exception could be lost in a callback, or become another one; nothing needs to be closed:
    # the database takes an open transaction back, the next start sweeps an unused metrics folder.
    # A migration that was cut off is none that was done.
    status = 0 if "serve" in sys.argv else 128 + signal.SIGTERM
    signal.signal(signal.SIGTERM, lambda *_: os._exit(status))

import argparse
import json
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from pathlib import Path

from slipway_kit.db.migrations import MigrationError
from slipway_kit.errors import SettingsError

ROOT = Path(__file__).parents[1]


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m app", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="run the service under gunicorn")
    serve.add_argument("--reload", action="store_true", help="one worker that follows the source")
    migrate = commands.add_parser("migrate", help="bring the schema to a version")
    migrate.add_argument("direction", nargs="?", default="upgrade", choices=_DIRECTIONS)
    migrate.add_argument("revision", nargs="?", help="default: head")
    capacity = commands.add_parser("capacity", help="print the sums of the contract")
    capacity.add_argument(
        "--from-values", metavar="FILE", help="chart values, one JSON object a line; - reads stdin"
    )
    commands.add_parser("openapi", help="print the API's document")
    options = parser.parse_args(arguments)
    try:
        return _COMMANDS[options.command](options)
    except (SettingsError, MigrationError) as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        return 2


def _serve(options: argparse.Namespace) -> int:
    return _serve_reloading() if options.reload else _serve_gunicorn()


def _serve_gunicorn() -> int:
    from gunicorn.app.wsgiapp import WSGIApplication

    sys.argv = ["gunicorn", "--config", str(ROOT / "gunicorn.conf.py")]
    WSGIApplication("%(prog)s", prog="gunicorn").run()
    return 0


def _serve_reloading() -> int:
    import uvicorn

    from app.settings import Settings
    from slipway_kit.server.ports import require_free

    server = Settings.load().server
    require_free(server.host, server.port, setting="PORT")
    if server.metrics_port:
        require_free(server.host, server.metrics_port, setting="METRICS_PORT")
    uvicorn.run(
        "app.main:create_app",
        factory=True,
        reload=True,
        reload_dirs=[str(ROOT / "app")],
        host=server.host,
        port=server.port,
        root_path=server.root_path,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=1,
    )
    return 0


def _migrate(options: argparse.Namespace) -> int:
    from app.settings import Settings
    from slipway_kit.db import migrations
    from slipway_kit.logs import setup as logs

    settings = Settings.load()
    logs.configure(level=settings.server.log_level, json=settings.server.logs_json)
    if options.direction == "current":
        print(migrations.current(settings.database) or "empty")
    elif options.direction == "downgrade":
        if not options.revision:
            message = "say which revision to go back to: python -m app migrate downgrade REVISION."
            raise SettingsError(message)
        migrations.downgrade(settings.database, options.revision)
    else:
        migrations.upgrade(settings.database, options.revision or "head")
    return 0


def _capacity(options: argparse.Namespace) -> int:
    from app.settings import Settings
    from slipway_kit.capacity import values as chart
    from slipway_kit.capacity.sums import report, verdict
    from slipway_kit.config.cgroup import read_limits

    if options.from_values is None:
        print(report(Settings.load().release(read_limits())))
        return 0
    accepted = True
    for number, line in enumerate(_lines(options.from_values), start=1):
        try:
            limits = list(chart.limits(json.loads(line)))
        except (ValueError, TypeError, AttributeError) as error:
            message = f"line {number} of the values is not usable: {error}."
            raise SettingsError(message) from None
        answer = verdict(limits)
        accepted = accepted and bool(answer["accepted"])
        print(json.dumps(answer))
    return 0 if accepted else 1


def _openapi(_: argparse.Namespace) -> int:
    from app.main import create_app

    # What is logged meanwhile is no part of the document.
    with redirect_stdout(sys.stderr):
        app = create_app()
    print(json.dumps(app.openapi(), indent=2, ensure_ascii=False))
    return 0


def _lines(file: str) -> Iterable[str]:
    if file == "-":
        text = sys.stdin.read()
    else:
        try:
            text = Path(file).read_text()
        except OSError as error:
            message = f"{file} cannot be read: {error.strerror}."
            raise SettingsError(message) from None
    return (line for line in text.splitlines() if line.strip())


_DIRECTIONS = ("upgrade", "downgrade", "current")
_COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "serve": _serve,
    "migrate": _migrate,
    "capacity": _capacity,
    "openapi": _openapi,
}

if __name__ == "__main__":
    sys.exit(main())
